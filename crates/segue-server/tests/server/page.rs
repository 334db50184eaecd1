//! The page at `/`.

use crate::support::host;

#[tokio::test]
async fn the_page_is_one_file_that_asks_for_nothing_from_elsewhere() {
    let host = host().await;
    let page = host.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"));
    for foreign in ["http://", "https://", "src=", "url(", "@import", "<link"] {
        assert!(!page.text.contains(foreign), "{foreign}");
    }
    assert!(page.text.contains("EventSource"));
    host.end().await;
}

#[tokio::test]
async fn what_is_shown_is_never_read_as_markup() {
    let host = host().await;
    let page = host.get("/").await.text;
    for danger in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!page.contains(danger), "{danger}");
    }
    host.end().await;
}
