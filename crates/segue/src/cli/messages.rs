//! `segue messages`.

use std::io;

use segue_client::{Client, Found, List, MessageFilter, SearchFilter};
use segue_core::{SessionId, fold::Message};

use super::{Exit, ServerArgs, table};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The session [default with --search: all of them]
    #[arg(required_unless_present = "search")]
    session: Option<SessionId>,
    /// Find messages that say these words, the newest first
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// Also messages that others took the place of
    #[arg(long, conflicts_with = "search")]
    superseded: bool,
    /// The most messages to list, of a session the last ones; 0 lists all
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print each message as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = args.server.client().await?;
    let most = if args.limit == 0 { usize::MAX } else { args.limit };
    let out = &mut io::stdout().lock();
    match (args.search, args.session) {
        (Some(words), session) => {
            let found = found(&client, words, session, most).await?;
            let head = ["MESSAGE", "SESSION", "ROLE", "CREATED", "TEXT"];
            table::print(out, &found, args.json, head, |found| {
                [
                    found.message_id.to_string(),
                    found.session_id.as_ref().map(SessionId::to_string).unwrap_or_default(),
                    found.role.clone(),
                    found.created_at.to_string(),
                    found.snippet.clone(),
                ]
            })?;
        }
        (None, Some(session)) => {
            let messages = last(&client, &session, args.superseded, most).await?;
            let head = ["MESSAGE", "ROLE", "STATUS", "CREATED", "TEXT"];
            table::print(out, &messages, args.json, head, |message| {
                [
                    message.id.to_string(),
                    message.role.as_str().to_owned(),
                    message.status.as_str().to_owned(),
                    message.created_at.to_string(),
                    text_of(message),
                ]
            })?;
        }
        (None, None) => anyhow::bail!("name a session, or what to find with --search"),
    }
    Ok(Exit::Done)
}

/// The last messages of a session, in its order.
async fn last(
    client: &Client,
    session: &SessionId,
    superseded: bool,
    most: usize,
) -> anyhow::Result<Vec<Message>> {
    let order = Some("desc".to_owned());
    let mut filter = MessageFilter { superseded, order, ..MessageFilter::default() };
    let mut messages: Vec<Message> = Vec::new();
    loop {
        let List { data, next } = client.messages(session, &filter).await?;
        messages.extend(data.into_iter().take(most - messages.len()));
        filter.after = next;
        if filter.after.is_none() || messages.len() == most {
            messages.reverse();
            return Ok(messages);
        }
    }
}

async fn found(
    client: &Client,
    words: String,
    session: Option<SessionId>,
    most: usize,
) -> anyhow::Result<Vec<Found>> {
    let mut filter = SearchFilter { q: words, session, after: None };
    let mut found: Vec<Found> = Vec::new();
    loop {
        let List { data, next } = client.search(&filter).await?;
        found.extend(data.into_iter().take(most - found.len()));
        filter.after = next;
        if filter.after.is_none() || found.len() == most {
            return Ok(found);
        }
    }
}

/// What of a message fits in a line.
fn text_of(message: &Message) -> String {
    const MOST: usize = 100;
    let text: String = message.parts.texts().collect();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
