//! How text looks.

/// A set of attributes of a terminal's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Style(u16);

/// The bits in the order in which their codes are written.
const CODES: [&str; 9] = ["1", "2", "3", "4", "9", "31", "32", "33", "36"];

impl Style {
    pub(in crate::cli) const PLAIN: Self = Self(0);
    pub(in crate::cli) const BOLD: Self = Self(1);
    pub(in crate::cli) const DIM: Self = Self(1 << 1);
    pub(in crate::cli) const ITALIC: Self = Self(1 << 2);
    pub(in crate::cli) const UNDERLINE: Self = Self(1 << 3);
    pub(in crate::cli) const STRIKE: Self = Self(1 << 4);
    pub(in crate::cli) const RED: Self = Self(1 << 5);
    pub(in crate::cli) const GREEN: Self = Self(1 << 6);
    pub(in crate::cli) const YELLOW: Self = Self(1 << 7);
    pub(in crate::cli) const CYAN: Self = Self(1 << 8);

    /// Both.
    #[must_use]
    pub(in crate::cli) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What turns these on; nothing for plain text.
    pub(in crate::cli) fn begin(self) -> String {
        let codes = CODES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1);
        let codes: Vec<&str> = codes.map(|(_, code)| *code).collect();
        if codes.is_empty() { String::new() } else { format!("\x1b[{}m", codes.join(";")) }
    }

    /// What turns all of them off.
    pub(in crate::cli) fn end(self) -> &'static str {
        if self == Self::PLAIN { "" } else { "\x1b[0m" }
    }

    /// `text` in this style.
    pub(in crate::cli) fn paint(self, text: &str) -> String {
        format!("{}{text}{}", self.begin(), self.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_are_written_and_taken_back() {
        assert_eq!(Style::PLAIN.paint("a"), "a");
        let both = Style::CYAN.and(Style::BOLD);
        assert_eq!(both.paint("a"), "\x1b[1;36ma\x1b[0m");
    }
}
