//! Showing a run until it ends or the person leaves.

use std::io;

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
        let Some(item) = item.transpose().inspect_err(|_| drop(printer.finish()))? else {
            return Ok(exit);
        };
        exit = print(&item, printer)?.unwrap_or(exit);
    }
}

/// Prints one thing that an attachment has yielded; gives what the run's end means.
pub(super) fn print(item: &Attached, printer: &mut Printer) -> io::Result<Option<Exit>> {
    match item {
        Attached::Event(event) => printer.event(event)?,
        Attached::Gap(gap) => printer.notice(&Notice::Gap(gap))?,
        Attached::Snapshot(snapshot) => printer.snapshot(snapshot)?,
        Attached::Control { .. } => {}
        Attached::Reconnecting(lost) => printer.notice(&Notice::Lost(lost))?,
        Attached::Ended(ended) => {
            printer.notice(&Notice::Ended(ended))?;
            printer.finish()?;
            return Ok(Some(Exit::of_run(ended.status)));
        }
    }
    Ok(None)
}
