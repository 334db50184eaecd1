//! Text in, bytes out.

use proptest::prelude::*;

use super::*;

/// What a terminal gets; styles as `<code>` and `>`.
fn shown(width: usize, text: &str) -> String {
    let mut markdown = Markdown::new(width);
    let out = markdown.push(text) + &markdown.finish();
    out.replace("\x1b[0m", ">").replace("\x1b[", "<")
}

#[test]
fn blocks_have_their_shapes() {
    let text = "# Title\ntext\n\n\n\n- one\n  - two\n10. ten\n\n> quoted\n> > twice\n\n---\nend";
    assert_eq!(
        shown(40, text),
        format!(
            "<1;4mTitle>\ntext\n\n\u{2022} one\n  \u{2022} two\n10. ten\n\n\
             <2m\u{2502} >quoted\n<2m\u{2502} \u{2502} >twice\n\n<2m{}>\nend\n",
            "\u{2500}".repeat(40)
        )
    );
}

#[test]
fn code_has_a_gutter_and_keeps_its_blanks() {
    let text = "say:\n\n```rust\nfn a() {\n    b(\"**\");\n\n}\n```\nthen";
    assert_eq!(
        shown(40, text),
        "say:\n\n<2m  \u{256d}\u{2500} rust>\n<2m  \u{2502} ><36mfn a() {>\n\
         <2m  \u{2502} ><36m    b(\"**\");>\n<2m  \u{2502} >\n<2m  \u{2502} ><36m}>\n\
         <2m  \u{2570}\u{2500}>\nthen\n"
    );
}

#[test]
fn further_rows_stand_below_the_words() {
    assert_eq!(
        shown(20, "12. one two three four five\n> one two three four five"),
        "12. one two three\n    four five\n<2m\u{2502} >one two three four\n<2m\u{2502} >five\n"
    );
}

#[test]
fn a_table_is_laid_out_when_it_is_over() {
    let mut markdown = Markdown::new(40);
    assert_eq!(markdown.push("| a | b |\n|---|---|\n| 1 | 22 |\n"), "");
    let table = markdown.push("x");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert_eq!(markdown.finish(), "x\n");
}

#[test]
fn words_come_as_soon_as_they_are_whole() {
    let mut markdown = Markdown::new(40);
    assert_eq!(markdown.push("Hel"), "");
    assert_eq!(markdown.push("lo wor"), "Hello");
    assert_eq!(markdown.push("ld **b"), " world");
    assert_eq!(markdown.push("old** "), " \x1b[1mbold");
    assert!(markdown.is_open());
    assert_eq!(markdown.finish(), "\x1b[0m\n");
    assert!(!markdown.is_open());
}

#[test]
fn a_pause_ends_the_row_and_nothing_is_lost() {
    let mut markdown = Markdown::new(40);
    assert_eq!(markdown.push("- one two "), "\u{2022} one two");
    assert_eq!(markdown.pause(), "\n");
    assert_eq!(markdown.pause(), "");
    assert_eq!(markdown.push("three"), "");
    assert_eq!(markdown.finish(), "  three\n");
}

#[test]
fn an_open_fence_is_closed_at_the_end() {
    assert!(shown(40, "```\nx").ends_with("<36mx>\n<2m  \u{2570}\u{2500}>\n"));
}

#[test]
fn a_line_without_an_end_is_not_held_for_ever() {
    for start in ["```\n", "|", "    ", "-", "#", "*a", "[", "`"] {
        let mut markdown = Markdown::new(40);
        markdown.push(start);
        let fill = if start.len() == 1 { start } else { "x" };
        let out = markdown.push(&fill.repeat(2 * HELD));
        assert!(out.len() >= HELD - 1, "{start:?} held all but {} bytes", out.len());
        let held = markdown.line.len() + markdown.table_bytes;
        assert!(held < HELD, "{start:?} holds {held}");
    }
}

/// What a terminal would obey is only what we wrote.
fn is_tame(out: &str) -> bool {
    let mut rest = out;
    while let Some(at) = rest.find('\x1b') {
        let Some(code) = rest[at..].strip_prefix("\x1b[") else { return false };
        let after = code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        let Some(after) = after.strip_prefix('m') else { return false };
        rest = after;
    }
    !out.chars().any(|c| c.is_control() && c != '\n' && c != '\x1b')
}

fn pieces() -> impl Strategy<Value = Vec<String>> {
    const BITS: &[&str] = &[
        "# ",
        "- ",
        "1. ",
        "> ",
        "```\n",
        "~~~",
        "|",
        "**",
        "*",
        "_",
        "`",
        "[a](b)",
        "[",
        "](",
        "\n",
        "\n\n",
        "    ",
        "\t",
        "word ",
        "x",
        "\x1b[2J",
        "\x1b]0;t\x07",
        "\r",
        "\r\n",
        "\u{9b}",
        "é",
        "\u{4e2d}",
        "---",
        "|-|-|\n",
        "\\",
        "~~",
        "\u{202e}",
        "\0",
        "long-word-that-fills-a-row ",
    ];
    prop::collection::vec(prop::sample::select(BITS).prop_map(str::to_owned), 0..60)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_bytes(pieces in pieces(), width in 10usize..60) {
        let whole: String = pieces.concat();
        let mut at_once = Markdown::new(width);
        let expect = at_once.push(&whole) + &at_once.finish();
        let mut split = Markdown::new(width);
        let mut out: String = pieces.iter().map(|piece| split.push(piece)).collect();
        out += &split.finish();
        prop_assert_eq!(out, expect);
    }

    #[test]
    fn a_model_cannot_drive_the_terminal(pieces in pieces(), width in 10usize..60) {
        let mut markdown = Markdown::new(width);
        let out = markdown.push(&pieces.concat()) + &markdown.finish();
        prop_assert!(is_tame(&out), "{out:?}");
        prop_assert!(out.is_empty() || out.ends_with('\n'), "{out:?}");
    }

    #[test]
    fn no_word_is_lost(words in prop::collection::vec("[a-z]{1,30}", 0..40), width in 10usize..60) {
        let mut markdown = Markdown::new(width);
        let out = markdown.push(&words.join(" ")) + &markdown.finish();
        let back: Vec<&str> = out.split_whitespace().collect();
        prop_assert_eq!(back, words);
    }
}
