//! What fuzzers do, on a stable compiler: each entry replays its corpus, then takes seeded
//! mutations of it. `SEGUE_FUZZ_ROUNDS` says how many; the default takes about ten seconds.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use segue_sources::fuzz_entry;

/// The seed of every entry's mutations.
const SEED: u64 = 0x5e90e;

/// Recorded answers, in the order of the APIs.
const ANSWERS: [&[u8]; 5] = [
    include_bytes!("fixtures/openai-chat.sse"),
    include_bytes!("fixtures/openai-responses.sse"),
    include_bytes!("fixtures/anthropic.sse"),
    include_bytes!("fixtures/gemini.sse"),
    include_bytes!("fixtures/ollama.ndjson"),
];

/// Pieces that decoders and dialects look for.
const WORDS: [&[u8]; 24] = [
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"data: ",
    b"data",
    b"event: error\n",
    b"id: 1\n",
    b"retry: 5\n",
    b": x\n",
    b"\xEF\xBB\xBF",
    b"\xF0\x9F",
    b"\0",
    b"\\ud83d",
    b"<think>",
    b"</think>",
    b"[DONE]",
    b"null",
    b"{}",
    b"[]",
    b"\"",
    b"99999999999999999999",
    b"\"error\":{}",
    b"\"index\":0",
];

/// Small, seeded, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `limit`, or 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or_default()
    }
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(input.len());
        let end = (at + random.below(24)).min(input.len());
        match random.below(6) {
            0 if !input.is_empty() => input[at] = random.next().to_le_bytes()[0],
            1 => drop(input.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            2 => drop(input.drain(at..end)),
            3 => input.extend_from_within(at..end),
            4 => input.truncate(at),
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "the input is what whoever reads the failure needs")]
fn show(input: &[u8]) {
    eprintln!("seed {SEED:#x}, input b\"{}\"", input.escape_ascii());
}

/// Replays `corpus`, then `rounds` mutations of it. An input that breaks a law is shown.
fn fuzz(entry: fn(&[u8]), corpus: &[Vec<u8>], rounds: u64) {
    let run = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| entry(input))) {
            show(input);
            resume_unwind(panic);
        }
    };
    for input in corpus {
        run(input);
    }
    let asked = std::env::var("SEGUE_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let mut random = Random(SEED);
    for _ in 0..asked.unwrap_or(rounds) {
        let mut input = corpus[random.below(corpus.len())].clone();
        mutate(&mut input, corpus, &mut random);
        run(&input);
    }
}

/// Bodies, each cut into chunks of a few sizes.
fn bodies(before: impl Fn(usize) -> Vec<u8>) -> Vec<Vec<u8>> {
    let sizes = [1_u8, 7, 64];
    let body = |size: u8| {
        let answers = ANSWERS.iter().enumerate();
        let whole =
            |(api, body): (usize, &&[u8])| [vec![size], before(api), body.to_vec()].concat();
        answers.map(whole).collect::<Vec<Vec<u8>>>()
    };
    sizes.into_iter().flat_map(body).collect()
}

#[test]
fn lines_hold_under_mutation() {
    fuzz(fuzz_entry::lines, &bodies(|_| Vec::new()), 100_000);
}

#[test]
fn sse_holds_under_mutation() {
    fuzz(fuzz_entry::sse, &bodies(|_| Vec::new()), 450_000);
}

#[test]
fn utf8_holds_under_mutation() {
    fuzz(fuzz_entry::utf8, &bodies(|_| Vec::new()), 110_000);
}

#[test]
fn answers_hold_under_mutation() {
    let api = |api: usize| vec![u8::try_from(api).expect("few")];
    fuzz(fuzz_entry::answer, &bodies(api), 60_000);
}
