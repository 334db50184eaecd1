//! What a cycle is to do, from the seed alone.

use fastrand::Rng;
use serde_json::{Value, json};

/// Where a run's events come from.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// JSON appends, one in flight.
    Batches(Push),
    /// One NDJSON body after the other.
    Lines(Push),
    /// The built-in agent at so many times its pace.
    Demo { speed: u32 },
    /// The built-in agent in the session that all such runs share, with a policy and a key.
    Lined { speed: u32, policy: &'static str },
    /// The built-in agent in a session that is deleted in the next cycle.
    Doomed { speed: u32 },
    /// A process with children, one of which leaves its group; with so many lines, or endless.
    Process { lines: Option<u32> },
}

/// What a producer outside sends.
#[derive(Clone, Debug)]
pub(super) struct Push {
    /// How many items.
    pub(super) items: u64,
    /// A terminal follows them.
    pub(super) ends: bool,
}

/// One run and its clients.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) run: String,
    pub(super) session: String,
    /// Of the run's items and of its clients' choices.
    pub(super) seed: u64,
    pub(super) work: Work,
    pub(super) readers: u64,
    /// An explicit stop comes after so many milliseconds.
    pub(super) stop_after: Option<u64>,
}

/// The runs of a cycle.
pub(super) fn plans(cycle: u32, rng: &mut Rng) -> Vec<Plan> {
    let mut works: Vec<Work> = (0..rng.u32(3..8)).map(|_| Work::Batches(push(rng))).collect();
    works.extend((0..rng.u32(1..4)).map(|_| Work::Lines(push(rng))));
    works.extend((0..rng.u32(1..3)).map(|_| Work::Demo { speed: rng.u32(10..2_000) }));
    works.extend((0..rng.u32(2..7)).map(|_| lined(rng)));
    works.extend((0..rng.u32(0..4)).map(|_| Work::Doomed { speed: rng.u32(100..2_000) }));
    works.extend((0..rng.u32(1..3)).map(|_| Work::Process { lines: lines(rng) }));
    rng.shuffle(&mut works);
    let plan = |(index, work): (usize, Work)| Plan {
        run: format!("c{cycle}-r{index}"),
        // Sessions are used again by later cycles, which a run that is still open would refuse.
        session: match work {
            Work::Lined { .. } => "line".into(),
            Work::Doomed { .. } => doomed(cycle),
            _ => format!("s{index}"),
        },
        seed: rng.u64(..),
        readers: rng.u64(0..4),
        stop_after: (!work.is_push() && rng.u8(..5) == 0).then(|| rng.u64(..60)),
        work,
    };
    works.into_iter().enumerate().map(plan).collect()
}

/// The session of a cycle that the next one deletes.
pub(super) fn doomed(cycle: u32) -> String {
    format!("doomed{cycle}")
}

fn lined(rng: &mut Rng) -> Work {
    let policies = ["queue", "replace", "parallel"];
    Work::Lined { speed: rng.u32(10..2_000), policy: policies[rng.usize(..policies.len())] }
}

fn push(rng: &mut Rng) -> Push {
    Push { items: rng.u64(1..400), ends: rng.u8(..3) == 0 }
}

fn lines(rng: &mut Rng) -> Option<u32> {
    rng.bool().then(|| rng.u32(1..20))
}

impl Work {
    pub(super) fn is_push(&self) -> bool {
        matches!(self, Self::Batches(_) | Self::Lines(_))
    }

    pub(super) fn is_lined(&self) -> bool {
        matches!(self, Self::Lined { .. })
    }

    /// How many items a producer outside sends.
    pub(super) fn items(&self) -> u64 {
        match self {
            Self::Batches(push) | Self::Lines(push) => push.items,
            Self::Demo { .. } | Self::Lined { .. } | Self::Doomed { .. } | Self::Process { .. } => {
                0
            }
        }
    }
}

impl Plan {
    /// The body of the request that starts the run. `mark` is an argument of the processes that
    /// only this harness has.
    pub(super) fn start(&self, mark: &str) -> Value {
        match &self.work {
            Work::Batches(_) | Work::Lines(_) => json!({"agent": "push", "run_id": self.run}),
            Work::Demo { speed } => {
                json!({"agent": "demo", "run_id": self.run, "params": {"speed": speed}})
            }
            Work::Doomed { speed } => {
                let params = json!({"speed": speed});
                json!({"agent": "demo", "run_id": self.run, "params": params, "policy": "parallel"})
            }
            Work::Lined { speed, policy } => {
                let params = json!({"speed": speed});
                json!({"agent": "demo", "run_id": self.run, "params": params, "policy": policy})
            }
            Work::Process { lines } => {
                let command = ["sh", "-c", &script(*lines, mark)].map(String::from);
                json!({"run_id": self.run, "source": {"kind": "process", "command": command}})
            }
        }
    }
}

fn script(lines: Option<u32>, mark: &str) -> String {
    let limit = lines.map_or_else(|| "true".into(), |lines| format!("[ $i -lt {lines} ]"));
    format!(
        "exec 2>/dev/null; sleep {mark} >/dev/null & setsid sleep {mark} >/dev/null & i=0; \
         while {limit}; do i=$((i+1)); echo line $i; sleep 0.01; done"
    )
}

/// The `n`th item of a producer; `n` is in it, to find it again.
pub(super) fn item(seed: u64, n: u64) -> Value {
    const PIECES: [&str; 6] =
        ["plain ", "\"quoted\" ", "line\nbreak ", "\u{e9}\u{4e16} ", "\u{1f3b5}", "\\"];
    let mut rng = Rng::with_seed(seed ^ (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let text: String = (0..rng.usize(..12)).map(|_| PIECES[rng.usize(..PIECES.len())]).collect();
    let part = format!("p{}", rng.u8(..3));
    json!({"type": "text.delta", "part": part, "n": n, "text": text})
}

/// The terminal that a producer sends.
pub(super) fn terminal() -> Value {
    json!({"type": "run.finished", "finish_reason": "stop"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_everything() {
        let plans_of = |seed| format!("{:?}", plans(3, &mut Rng::with_seed(seed)));
        assert_eq!(plans_of(7), plans_of(7));
        assert_ne!(plans_of(7), plans_of(8));
        assert_eq!(item(7, 3), item(7, 3));
        assert_ne!(item(7, 3), item(7, 4));
    }
}
