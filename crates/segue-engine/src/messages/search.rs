//! Finding messages by what they say.

use segue_core::{MessageId, RunId, SessionId, TenantId, Timestamp, fold::Role};
use segue_journal::views::{Compare, Phrase, Select, Value as Cell, placed_words};
use serde::Serialize;

use crate::{
    engine::Engine,
    projection::{
        MESSAGES,
        message::{StoredMessage, page_after, text_of_message},
        rows,
    },
    query::{List, QueryError, page_size},
};

/// How many bytes of text a hit shows before and after what was found.
const AROUND: usize = 80;

/// What to look for; the newest first.
#[derive(Clone, Debug, Default)]
pub struct SearchQuery {
    /// Words that all have to be there; `"several words"` that stand together; a word with a `*`
    /// at its end need only begin so.
    pub text: String,
    /// Only in this session.
    pub session: Option<SessionId>,
    /// Only of who has this role.
    pub role: Option<Role>,
    /// Also those that others took the place of.
    pub superseded: bool,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// The most to give; 0 means [`crate::DEFAULT_LIMIT`].
    pub limit: usize,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchHit {
    /// The message.
    pub message_id: MessageId,
    /// Its session.
    pub session_id: Option<SessionId>,
    /// The run that made it, or that it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Who says it.
    pub role: Role,
    /// What it says where it was found.
    pub snippet: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Engine {
    /// Messages that say this. Those that still grow are found once they are whole.
    pub async fn search(
        &self,
        tenant: &TenantId,
        query: SearchQuery,
    ) -> Result<List<SearchHit>, QueryError> {
        let phrases = phrases(&query.text);
        if phrases.is_empty() {
            return Err(QueryError::NoWords);
        }
        self.views_ended().await?;
        let limit = page_size(query.limit);
        let found = self.inner.views.select(&select(tenant, query, phrases.clone(), limit + 1)?)?;
        let page = &found[..found.len().min(limit)];
        let last = page.last().filter(|_| found.len() > limit);
        let next = last.and_then(|row| page_after(row, false));
        let hit = |stored: StoredMessage| hit_of(stored, &phrases);
        Ok(List { data: page.iter().filter_map(StoredMessage::of).map(hit).collect(), next })
    }
}

fn select(
    tenant: &TenantId,
    query: SearchQuery,
    phrases: Vec<Phrase>,
    limit: usize,
) -> Result<Select, QueryError> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let mut filter = vec![("tenant", Compare::Eq, text(tenant.as_str()))];
    filter.extend(query.session.map(|id| ("session_id", Compare::Eq, text(id.as_str()))));
    filter.extend(query.role.map(|role| ("role", Compare::Eq, text(role.as_str()))));
    if !query.superseded {
        filter.push(("superseded_by", Compare::Eq, Cell::Null));
    }
    let after = query.after.map(|text| rows::parse_page(&text).ok_or(QueryError::BadCursor));
    Ok(Select {
        table: MESSAGES,
        filter,
        phrases,
        order_by: "created_at",
        descending: true,
        after: after.transpose()?,
        limit,
    })
}

/// What a person has typed.
fn phrases(text: &str) -> Vec<Phrase> {
    let mut phrases = Vec::new();
    for (index, piece) in text.split('"').enumerate() {
        let is_quoted = index % 2 == 1;
        if is_quoted {
            phrases.extend(Phrase::new(piece, false));
        } else {
            let of_word = |word: &str| Phrase::new(word, word.ends_with('*'));
            phrases.extend(piece.split_whitespace().filter_map(of_word));
        }
    }
    phrases
}

fn hit_of(stored: StoredMessage, phrases: &[Phrase]) -> SearchHit {
    let message = stored.message;
    let snippet = snippet(&text_of_message(&message), phrases);
    SearchHit {
        message_id: stored.continues.unwrap_or(message.id),
        session_id: message.session_id,
        run_id: message.run_id,
        role: message.role,
        snippet,
        created_at: message.created_at,
    }
}

/// The text around the first place where the first phrase begins.
fn snippet(text: &str, phrases: &[Phrase]) -> String {
    let sought = phrases.first().and_then(|phrase| phrase.words.first());
    let is_sought = |word: &String| sought.is_some_and(|sought| word.starts_with(sought));
    let at = placed_words(text).find(|(_, word)| is_sought(word)).map_or(0, |(at, _)| at);
    let start = text.ceil_char_boundary(at.saturating_sub(AROUND));
    let end = text.floor_char_boundary(at.saturating_add(AROUND));
    let cut = |is_cut: bool| if is_cut { "\u{2026}" } else { "" };
    let body = text[start..end].trim();
    format!("{}{body}{}", cut(start > 0), cut(end < text.trim_end().len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_words_and_phrases() {
        let phrase = |text: &str, is_prefix| Phrase::new(text, is_prefix).expect("words");
        for (text, expected) in [
            ("", vec![]),
            (" \" \" * -", vec![]),
            ("one  TWO*", vec![phrase("one", false), phrase("two", true)]),
            ("a\"b c\"d", vec![phrase("a", false), phrase("b c", false), phrase("d", false)]),
            ("\"open end*", vec![phrase("open end", false)]),
        ] {
            assert_eq!(phrases(text), expected, "{text}");
        }
    }

    #[test]
    fn a_snippet_is_around_what_was_found() {
        let before = "\u{e9}".repeat(200);
        let text = format!("{before} here it IS {before}\n");
        let shown = snippet(&text, &phrases("is"));
        assert!(
            shown.starts_with("\u{2026}\u{e9}") && shown.ends_with("\u{e9}\u{2026}"),
            "{shown}"
        );
        assert!(shown.contains("here it IS \u{e9}"), "{shown}");
        assert!(shown.len() <= 2 * AROUND + 2 * "\u{2026}".len());
        assert_eq!(snippet("all of it\n", &phrases("it")), "all of it");
        assert_eq!(snippet("", &phrases("it")), "");
    }
}
