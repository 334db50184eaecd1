//! Who calls, and what they may do.

mod gate;
mod share;

use http::{HeaderMap, header};
use segue_core::TenantId;
use subtle::ConstantTimeEq;

use crate::error::{Code, Problem};

pub(crate) use gate::Gate;
pub(crate) use share::Sharing;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Anyone past `Host` and `Origin`.
    Local,
    /// Who shows the admin token: also processes in a request.
    Admin,
}

/// Who calls, and whose data it is about.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) tenant: TenantId,
    scope: Scope,
}

impl Principal {
    /// Reads the `Authorization` header. One that is not accepted is refused and never ignored.
    pub(crate) fn of(headers: &HeaderMap, token: Option<&str>) -> Result<Self, Problem> {
        let scope = match headers.get(header::AUTHORIZATION) {
            None => Scope::Local,
            Some(value) if token.is_some_and(|token| shows(value.as_bytes(), token)) => {
                Scope::Admin
            }
            Some(_) => return Err(Problem::new(Code::BadToken, "the token is not accepted")),
        };
        Ok(Self { tenant: TenantId::local(), scope })
    }

    /// For protocols whose clients always send a token, of whatever service: one that is not ours
    /// gives nothing and takes nothing away.
    pub(crate) fn of_any(headers: &HeaderMap, token: Option<&str>) -> Self {
        let local = Self { tenant: TenantId::local(), scope: Scope::Local };
        Self::of(headers, token).unwrap_or(local)
    }

    /// Who it is, in one word.
    pub(crate) fn name(&self) -> &'static str {
        match self.scope {
            Scope::Local => "local",
            Scope::Admin => "admin",
        }
    }

    /// Refuses who does not have the admin scope.
    pub(crate) fn need_admin(&self, what: &str) -> Result<(), Problem> {
        if self.scope == Scope::Admin {
            return Ok(());
        }
        Err(Problem::new(Code::AdminOnly, format!("{what} needs the admin token")))
    }
}

/// Compares in a time that does not depend on where the difference is.
fn shows(header: &[u8], token: &str) -> bool {
    let (scheme, shown) = header.split_at(header.len().min(7));
    scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(shown.ct_eq(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(header: Option<&str>, token: Option<&str>) -> Result<Scope, Code> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(header::AUTHORIZATION, header.parse().expect("ascii"));
        }
        Principal::of(&headers, token).map(|p| p.scope).map_err(|problem| problem.code())
    }

    #[test]
    fn a_token_gives_the_admin_scope() {
        assert_eq!(scope(None, Some("t0k")), Ok(Scope::Local));
        assert_eq!(scope(Some("Bearer t0k"), Some("t0k")), Ok(Scope::Admin));
        assert_eq!(scope(Some("bearer t0k"), Some("t0k")), Ok(Scope::Admin));
    }

    #[test]
    fn a_token_of_another_service_gives_nothing_where_clients_always_send_one() {
        let of = |header: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, header.parse().expect("ascii"));
            Principal::of_any(&headers, Some("t0k")).scope
        };
        assert_eq!(of("Bearer sk-123"), Scope::Local);
        assert_eq!(of("Bearer t0k"), Scope::Admin);
    }

    #[test]
    fn a_wrong_token_is_refused_not_ignored() {
        for header in ["Bearer t0", "Bearer t0kk", "Bearer ", "Bearer", "t0k", "Basic t0k", ""] {
            assert_eq!(scope(Some(header), Some("t0k")), Err(Code::BadToken), "{header:?}");
        }
        assert_eq!(scope(Some("Bearer t0k"), None), Err(Code::BadToken));
        assert_eq!(scope(Some("Bearer "), None), Err(Code::BadToken));
    }
}
