//! Runs whose events a program outside appends.

use futures_util::{StreamExt, stream};
use segue_core::{InboundStream, Ingress, RunInput, Source, StopSignal};

/// The source of runs that are fed by appends. Its stream gives nothing and ends when the run is
/// to stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct PushSource;

impl Source for PushSource {
    fn ingress(&self) -> Ingress {
        Ingress::Append
    }

    fn start(&self, _input: RunInput, stop: StopSignal) -> InboundStream {
        let stopped = async move {
            stop.stopped().await;
        };
        Box::pin(stream::once(stopped).filter_map(|()| async { None }).fuse())
    }
}
