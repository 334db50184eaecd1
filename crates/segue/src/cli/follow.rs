//! Showing a run until it ends or the person leaves.

use futures_util::StreamExt;
use segue_client::{Attached, Attachment};
use segue_core::RunId;
use tokio::signal;

use super::{
    Exit,
    printer::{Notice, Printer},
    say,
};

/// Prints what an attachment yields. Ctrl-C leaves; the run goes on.
pub(super) async fn to_the_end(
    mut attachment: Attachment,
    run: &RunId,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    loop {
        let item = tokio::select! {
            item = attachment.next() => item,
            left = signal::ctrl_c() => {
                left?;
                printer.finish()?;
                say(&format!("detached; the run goes on\n  segue attach {run}\n  segue stop {run}"));
                return Ok(Exit::Left);
            }
        };
        match item {
            None => return Ok(exit),
            Some(Err(error)) => {
                printer.finish()?;
                return Err(error.into());
            }
            Some(Ok(Attached::Event(event))) => printer.event(&event)?,
            Some(Ok(Attached::Gap(gap))) => printer.notice(&Notice::Gap(&gap))?,
            Some(Ok(Attached::Snapshot(snapshot))) => printer.snapshot(&snapshot)?,
            Some(Ok(Attached::Control { .. })) => {}
            Some(Ok(Attached::Reconnecting(lost))) => printer.notice(&Notice::Lost(&lost))?,
            Some(Ok(Attached::Ended(ended))) => {
                printer.notice(&Notice::Ended(&ended))?;
                printer.finish()?;
                exit = Exit::of_run(ended.status);
            }
        }
    }
}
