//! Q05: exactly one terminal, whatever happens.

use proptest::prelude::*;
use segue_core::{Inbound, InterruptionCause, RunError};
use segue_engine::{AppendError, StartRun, StopRequest};

use super::support::*;

#[derive(Clone, Debug)]
enum Happening {
    Event,
    Finish,
    Fail,
    Interrupt,
    Panic,
    Leave,
    Stop,
    Advance(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => Just(Happening::Event),
        1 => Just(Happening::Finish),
        1 => Just(Happening::Fail),
        1 => Just(Happening::Interrupt),
        1 => Just(Happening::Panic),
        1 => Just(Happening::Leave),
        2 => Just(Happening::Stop),
        1 => (1_u64..30).prop_map(Happening::Advance),
    ]
}

async fn happen(
    stage: &Stage,
    run: &segue_core::RunId,
    strings: &mut Option<Strings>,
    what: Happening,
) {
    let pull = match what {
        Happening::Event => Pull::Give(Inbound::Event(text("x"))),
        Happening::Finish => Pull::Give(Inbound::Finished { finish_reason: None, usage: None }),
        Happening::Fail => Pull::Give(Inbound::Failed(RunError::new("e", "m"))),
        Happening::Interrupt => Pull::Give(Inbound::Interrupted(InterruptionCause::UpstreamEof)),
        Happening::Panic => Pull::Panic,
        Happening::Leave => return *strings = None,
        Happening::Stop => {
            stage.engine.stop_run(tenant(), run, StopRequest::by_user()).await.unwrap();
            return;
        }
        Happening::Advance(seconds) => {
            return tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
        }
    };
    if let Some(strings) = strings {
        // A run that has ended does not listen any more.
        strings.try_pull(pull);
    }
    tokio::task::yield_now().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn q05_every_path_ends_in_exactly_one_terminal(
        happenings in prop::collection::vec(happening(), 1..25),
        leaves: bool,
        limit in 0_u64..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let stage = Stage::over(memory_journal(), Puppet::new(leaves)).await;
            let limits = segue_core::Limits { wall_clock_s: limit, events: 20, ..Default::default() };
            let request = StartRun { limits, ..StartRun::of(agent("puppet")) };
            let run = stage.engine.start(tenant(), request).await.unwrap().run;
            let mut strings = Some(stage.puppet.strings(&run.id).await);
            for what in happenings {
                happen(&stage, &run.id, &mut strings, what).await;
            }
            stage.engine.shutdown(MINUTE).await;
            check_whole(&stage.follow(&run.id).await);
        });
    }

    /// A producer's appends race a stop and its own terminal.
    #[test]
    fn a_push_run_ends_in_exactly_one_terminal(steps in prop::collection::vec(0_u8..4, 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let stage = Stage::new().await;
            let run = stage.push("s").await;
            for (seq, step) in steps.into_iter().enumerate() {
                let event = match step {
                    0 | 1 => text("x"),
                    2 => of_type("run.finished"),
                    _ => {
                        stage.engine.stop_run(tenant(), &run.id, StopRequest::by_user()).await.unwrap();
                        continue;
                    }
                };
                match stage.engine.append(tenant(), &run.id, vec![event], None).await {
                    Ok(pending) => drop(pending.await),
                    Err(error) => assert_eq!(error, AppendError::RunEnded, "append {seq}"),
                }
            }
            stage.engine.shutdown(MINUTE).await;
            check_whole(&stage.follow(&run.id).await);
        });
    }
}
