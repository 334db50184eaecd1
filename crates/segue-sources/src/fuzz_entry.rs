//! Entry points for fuzzers: plain functions of bytes that panic when a law is broken.
//!
//! The first byte of the input says how the rest is cut into chunks.

use std::fmt::Debug;

use segue_core::Event;

use crate::{
    decode::{LineDecoder, SseDecoder, Utf8Decoder},
    upstream::{self, Api},
};

/// The cap that the entries decode with: small, so that inputs reach it.
const MAX: usize = 64;
/// The cap on a frame of an answer: recorded ones fit.
const MAX_FRAME: usize = 1 << 10;

/// Lines, refusing and cutting: any chunking gives the same.
pub fn lines(input: &[u8]) {
    any_chunking_gives_the_same(input, |chunks| read_lines(LineDecoder::new(MAX), chunks));
    any_chunking_gives_the_same(input, |chunks| read_lines(LineDecoder::cutting(MAX), chunks));
}

/// SSE: any chunking gives the same.
pub fn sse(input: &[u8]) {
    any_chunking_gives_the_same(input, |chunks| {
        let mut decoder = SseDecoder::new(MAX);
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk);
            loop {
                match decoder.next() {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => return (events, Some(error), String::new(), None),
                }
            }
        }
        (events, None, decoder.last_event_id().to_owned(), decoder.retry_ms())
    });
}

/// Text: any chunking gives what decoding the whole at once gives.
pub fn utf8(input: &[u8]) {
    any_chunking_gives_the_same(input, |chunks| {
        let mut decoder = Utf8Decoder::new();
        let mut text: String = chunks.iter().map(|chunk| decoder.feed(chunk)).collect();
        text.push_str(&decoder.finish());
        assert_eq!(text, String::from_utf8_lossy(&chunks.concat()));
        text
    });
}

/// The answer of a model, in the API that the first byte of the body says: any chunking gives the
/// same, and every event is one that a producer could have sent.
pub fn answer(input: &[u8]) {
    let Some((&size, rest)) = input.split_first() else { return };
    let Some((&api, body)) = rest.split_first() else { return };
    let api = Api::ALL[usize::from(api) % Api::ALL.len()];
    let sized = [&[size], body].concat();
    any_chunking_gives_the_same(&sized, |chunks| upstream::digest(api, chunks, MAX_FRAME));
    let mut told = upstream::digest(api, &[body], MAX_FRAME);
    told.pop();
    for event in told {
        let read = Event::from_producer(&event.clone().into(), usize::MAX);
        assert!(read.is_ok(), "{event}: {read:?}");
    }
}

type Lines = (Vec<Vec<u8>>, bool);

fn read_lines(mut decoder: LineDecoder, chunks: &[&[u8]]) -> Lines {
    let mut lines = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        loop {
            match decoder.next() {
                Ok(Some(line)) => lines.push(line.to_vec()),
                Ok(None) => break,
                Err(_) => return (lines, true),
            }
        }
    }
    lines.extend(decoder.finish().map(|line| line.to_vec()));
    assert!(lines.iter().all(|line| line.len() <= MAX && !line.contains(&b'\n')));
    (lines, false)
}

fn any_chunking_gives_the_same<T: PartialEq + Debug>(input: &[u8], decode: impl Fn(&[&[u8]]) -> T) {
    let Some((&size, rest)) = input.split_first() else { return };
    let chunks: Vec<&[u8]> = rest.chunks(usize::from(size).max(1)).collect();
    assert_eq!(decode(&chunks), decode(&[rest]));
}
