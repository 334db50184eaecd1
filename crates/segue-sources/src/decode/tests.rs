use proptest::prelude::*;

use super::{
    split::{Ends, Overlong, Splitter},
    *,
};
use crate::fuzz_entry;

fn lines(mut decoder: LineDecoder, chunks: &[&str]) -> Result<Vec<String>, LineTooLong> {
    let text = |line: bytes::Bytes| String::from_utf8_lossy(&line).into_owned();
    let mut found = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk.as_bytes());
        while let Some(line) = decoder.next()? {
            found.push(text(line));
        }
    }
    found.extend(decoder.finish().map(text));
    Ok(found)
}

#[test]
fn lines_end_in_lf_or_crlf_and_blank_ones_are_told() {
    let all = |chunks: &[&str]| lines(LineDecoder::new(100), chunks).expect("short lines");
    assert_eq!(all(&["a\r\n\n", "b\rc\n"]), ["a", "", "b\rc"]);
    assert_eq!(all(&["a\r", "\nb"]), ["a", "b"]);
    assert_eq!(all(&["a\n\r"]), ["a", ""]);
    assert_eq!(all(&["a\n"]), ["a"]);
    assert!(all(&[""]).is_empty());
}

#[test]
fn a_line_of_exactly_the_cap_passes_and_one_more_byte_does_not() {
    let read = |text: &str| lines(LineDecoder::new(3), &[text]);
    assert_eq!(read("abc\r\n").expect("fits"), ["abc"]);
    assert_eq!(read("abc").expect("fits"), ["abc"]);
    assert_eq!(read("abcd\n"), Err(LineTooLong { max: 3 }));
    assert_eq!(read("abcd"), Err(LineTooLong { max: 3 }));
    assert_eq!(read("abc\rd"), Err(LineTooLong { max: 3 }));
}

#[test]
fn the_lines_before_a_long_one_are_given_and_its_error_stays() {
    let mut decoder = LineDecoder::new(3);
    decoder.feed(b"a\nlong\nb\n");
    assert_eq!(decoder.next().expect("short").as_deref(), Some(&b"a"[..]));
    assert_eq!(decoder.next(), Err(LineTooLong { max: 3 }));
    assert_eq!(decoder.next(), Err(LineTooLong { max: 3 }));
}

#[test]
fn a_cutting_decoder_cuts_between_characters() {
    let read = |chunks: &[&str]| lines(LineDecoder::cutting(4), chunks).expect("never fails");
    assert_eq!(read(&["abcdefghi\nx\n"]), ["abcd", "efgh", "i", "x"]);
    assert_eq!(read(&["abc", "é", "d\n"]), ["abc", "éd"]);
}

fn sse(chunks: &[&[u8]]) -> (Vec<SseEvent>, SseDecoder) {
    let mut decoder = SseDecoder::new(1 << 10);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        while let Some(event) = decoder.next().expect("within the cap") {
            events.push(event);
        }
    }
    (events, decoder)
}

fn event(event: &str, data: &str, id: &str) -> SseEvent {
    SseEvent { event: event.into(), data: data.into(), id: id.into() }
}

fn check_sse(text: &str, expected: &[SseEvent]) {
    assert_eq!(sse(&[text.as_bytes()]).0, expected, "{text:?} at once");
    let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(sse(&bytes).0, expected, "{text:?} byte by byte");
}

#[test]
fn sse_fields() {
    check_sse("data: a\n\n", &[event("message", "a", "")]);
    check_sse("data:a\n\n", &[event("message", "a", "")]);
    check_sse("data:  a\n\n", &[event("message", " a", "")]);
    check_sse("data\n\n", &[event("message", "", "")]);
    check_sse("event: x\ndata: a:b\n\n", &[event("x", "a:b", "")]);
    check_sse("data: a\ndata\ndata: b\n\n", &[event("message", "a\n\nb", "")]);
    check_sse(": comment\nfoo: bar\n\ndata: a\n\n", &[event("message", "a", "")]);
    check_sse("event: x\n\ndata: a\n\n", &[event("message", "a", "")]);
}

#[test]
fn sse_line_ends() {
    for end in ["\n", "\r", "\r\n"] {
        let text = format!("id: 1{end}data: a{end}{end}data: b{end}{end}");
        check_sse(&text, &[event("message", "a", "1"), event("message", "b", "1")]);
    }
    // A CR ends its line at once: an event does not wait for the byte after it.
    assert_eq!(sse(&[b"data: a\r\r"]).0.len(), 1);
    check_sse(
        "data: a\r\n\rdata: b\n\r\n",
        &[event("message", "a", ""), event("message", "b", "")],
    );
}

#[test]
fn an_sse_id_sticks_until_it_is_changed_or_cleared() {
    check_sse(
        "id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid\ndata: d\n\n",
        &[
            event("message", "a", "1"),
            event("message", "b", "1"),
            event("message", "c", "1"),
            event("message", "d", ""),
        ],
    );
}

#[test]
fn an_sse_block_without_data_is_no_event_but_its_id_counts() {
    let (events, decoder) = sse(&[b"id: 7\n\nid: 8\n"]);
    assert_eq!((events.len(), decoder.last_event_id()), (0, "7"));
    check_sse("id: 7\nevent: x\n\ndata: a\n\n", &[event("message", "a", "7")]);
}

#[test]
fn sse_retry_is_digits_only() {
    let retry = |text: &str| sse(&[text.as_bytes()]).1.retry_ms();
    assert_eq!(retry("retry: 250\n"), Some(250));
    assert_eq!(retry("retry: 250\nretry: 1s\nretry: -1\nretry: +1\nretry:\n"), Some(250));
    assert_eq!(retry("retry: 99999999999999999999999\n"), None);
}

#[test]
fn one_byte_order_mark_is_dropped_and_an_unfinished_event_too() {
    check_sse("\u{feff}data: a\n\ndata: b\n", &[event("message", "a", "")]);
    check_sse("\u{feff}\u{feff}data: a\n\ndata: b\n\n", &[event("message", "b", "")]);
    check_sse("\n\u{feff}data: a\n\n", &[]);
}

#[test]
fn bad_utf8_in_sse_is_replaced_and_ends_nothing() {
    let (events, _) = sse(&[b"data: a\xFF\xE2\x82\n\nda", b"ta: \xE2\x82", b"\xAC\n\n"]);
    assert_eq!(
        events,
        [event("message", "a\u{fffd}\u{fffd}", ""), event("message", "\u{20ac}", "")]
    );
}

#[test]
fn sse_caps_hold_for_a_line_and_for_an_event() {
    let mut decoder = SseDecoder::new(10);
    decoder.feed(b"data: 1234\n\ndata: 12345\n\n");
    assert!(decoder.next().is_ok());
    assert_eq!(decoder.next(), Err(LineTooLong { max: 10 }.into()));
    assert_eq!(decoder.next(), Err(LineTooLong { max: 10 }.into()));

    let mut decoder = SseDecoder::new(10);
    decoder.feed(b"data: 1234\ndata: 5678\ndata: 9\n\n");
    assert_eq!(decoder.next(), Err(SseError::EventTooLarge { max: 10 }));
    assert_eq!(decoder.next(), Err(SseError::EventTooLarge { max: 10 }));
}

#[test]
fn a_line_of_4_mib_in_chunks_of_64_bytes_is_searched_once() {
    const LENGTH: usize = 4 << 20;
    for ends in [Ends::Lf, Ends::Any] {
        let mut splitter = Splitter::new(ends, Overlong::Refuse, 8 << 20);
        for _ in 0..LENGTH / 64 {
            splitter.feed(&[b'x'; 64]);
            assert_eq!(splitter.next(), Ok(None));
        }
        splitter.feed(b"\n");
        assert_eq!(splitter.next().expect("fits").map(|line| line.len()), Some(LENGTH));
        assert_eq!(splitter.searched(), LENGTH + 1);
    }
}

#[test]
fn a_long_sse_event_in_small_chunks_arrives_whole() {
    let mut decoder = SseDecoder::new(8 << 20);
    decoder.feed(b"data:");
    for _ in 0..(4 << 20) / 64 {
        decoder.feed(&[b'x'; 64]);
        assert_eq!(decoder.next(), Ok(None));
    }
    decoder.feed(b"\n\n");
    assert_eq!(decoder.next().expect("fits").map(|event| event.data.len()), Some(4 << 20));
}

/// Bytes in which line ends, fields and broken characters are common.
fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n\n".to_vec()),
        Just(b"data: ".to_vec()),
        Just(b"id:".to_vec()),
        Just(b"event: x".to_vec()),
        Just(b"retry:12".to_vec()),
        Just(b"\xEF\xBB\xBF".to_vec()),
        Just("\u{1f600}".as_bytes().to_vec()),
        Just(b"\xF0\x9F".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let pieces = proptest::collection::vec(piece, 0..40);
    (1..20_u8, pieces).prop_map(|(size, pieces)| [vec![size], pieces.concat()].concat())
}

proptest! {
    #[test]
    fn any_chunking_of_lines_gives_the_same(input in stream_bytes()) {
        fuzz_entry::lines(&input);
    }

    #[test]
    fn any_chunking_of_sse_gives_the_same(input in stream_bytes()) {
        fuzz_entry::sse(&input);
    }

    #[test]
    fn any_chunking_of_text_gives_the_same(input in stream_bytes()) {
        fuzz_entry::utf8(&input);
    }

    #[test]
    fn lines_joined_again_are_the_input(lines in proptest::collection::vec("[^\r\n]{0,20}", 0..20)) {
        let text = lines.iter().flat_map(|line| [line, "\n"]).collect::<String>();
        prop_assert_eq!(super::tests::lines(LineDecoder::new(100), &[&text]), Ok(lines));
    }

    #[test]
    fn what_is_written_as_sse_is_read_back(data in "[^\r]{0,40}", id in "[a-z0-9:]{0,8}") {
        let lines = format!("data: {}\n", data.replace('\n', "\ndata: "));
        let (events, _) = sse(&[format!("id: {id}\n{lines}\n").as_bytes()]);
        prop_assert_eq!(events, [event("message", &data, &id)]);
    }
}
