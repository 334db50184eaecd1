//! What a failure is told as: what is wrong, and what to do.

use std::io;

use segue_client::ClientError;
use segue_server::BindError;

use super::server::{DEFAULT_URL, ServerArgs, Target};

/// The sentences for an error of a command. `server` is whom the command talked to, if anybody.
pub(super) fn of(error: &anyhow::Error, server: Option<&ServerArgs>) -> String {
    if let Some(BindError::Listen { address, error }) = error.downcast_ref()
        && error.kind() == io::ErrorKind::AddrInUse
    {
        return format!(
            "another process listens on {address}\n  \
             give another address with --listen, 127.0.0.1:0 picks a free one"
        );
    }
    let target = server.and_then(|server| server.target().ok());
    match (error.downcast_ref::<ClientError>(), target) {
        (Some(ClientError::Transport(cause)), Some(target)) => {
            unreached(&cause.to_string(), &target)
        }
        (Some(ClientError::Problem(problem)), Some(target)) => {
            let hint = hint(&problem.code, &target).map(|hint| format!("\n  {hint}"));
            format!("{error:#}{}", hint.unwrap_or_default())
        }
        _ => format!("{error:#}"),
    }
}

fn unreached(cause: &str, target: &Target) -> String {
    match target {
        Target::Named(url) => format!(
            "no server answers at {url}: {cause}\n  \
             start one there, or leave out --server to use the one of the data folder"
        ),
        Target::Folder(place) => {
            let folder = place.path().display();
            format!("the server of the data folder {folder} does not answer: {cause}")
        }
        Target::Usual(place) => format!(
            "no server is running: {} holds no data yet, and nothing answers at {DEFAULT_URL}\n  \
             start one with: segue serve",
            place.path().display()
        ),
    }
}

fn hint(code: &str, target: &Target) -> Option<String> {
    Some(match (code, target) {
        ("bad_token", Target::Folder(_)) => {
            "leave out --token and SEGUE_TOKEN to show it the folder's own".to_owned()
        }
        ("bad_token" | "admin_only", _) => {
            "give the server's token with --token or SEGUE_TOKEN: `segue token`, asked where its \
             data folder is, shows it"
                .to_owned()
        }
        ("not_found", _) => format!("`segue runs` lists what {} has", name(target)),
        ("disk_full", _) => "make room where the data folder is".to_owned(),
        ("shutting_down", _) => "it is going down: try again when it is back".to_owned(),
        _ => return None,
    })
}

fn name(target: &Target) -> String {
    match target {
        Target::Named(url) => format!("the server at {url}"),
        Target::Folder(place) => format!("the data folder {}", place.path().display()),
        Target::Usual(_) => format!("the server at {DEFAULT_URL}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;

    #[test]
    fn what_to_do_is_said_with_what_is_wrong() {
        let named = Target::Named("http://h:1".to_owned());
        let folder = Target::Folder(Place::new("/d".into()));
        let usual = Target::Usual(Place::new("/d".into()));
        assert!(unreached("refused", &named).contains("http://h:1"));
        assert!(unreached("refused", &folder).contains("/d"));
        assert!(unreached("refused", &usual).contains("segue serve"));
        for (code, target, expect) in [
            ("bad_token", &named, "--token"),
            ("bad_token", &folder, "leave out"),
            ("admin_only", &usual, "segue token"),
            ("not_found", &folder, "/d"),
        ] {
            let said = hint(code, target).unwrap();
            assert!(said.contains(expect), "{said}");
        }
        assert_eq!(hint("bad_id", &folder), None);
    }
}
