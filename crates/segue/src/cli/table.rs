//! Lists: lines of JSON for programs, columns for people.

use std::io::{self, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::render::clean;

/// Prints a list, each entry on a line: as JSON, or in columns below `head`.
pub(super) fn print<T: Serialize, const N: usize>(
    out: &mut impl Write,
    list: &[T],
    json: bool,
    head: [&str; N],
    row: impl Fn(&T) -> [String; N],
) -> io::Result<()> {
    if json {
        for entry in list {
            serde_json::to_writer(&mut *out, entry).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
    } else {
        columns(out, head, list.iter().map(row))?;
    }
    out.flush()
}

/// Numbers stand to the right, all else to the left.
fn columns<const N: usize>(
    out: &mut impl Write,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> io::Result<()> {
    let rows: Vec<[String; N]> = rows.map(|row| row.map(|cell| clean::line(&cell))).collect();
    let is_number = |cell: &String| cell.bytes().all(|byte| byte.is_ascii_digit());
    let right: Vec<bool> =
        (0..N).map(|at| !rows.is_empty() && rows.iter().all(|row| is_number(&row[at]))).collect();
    let all = || std::iter::once(head.map(str::to_owned)).chain(rows.iter().cloned());
    let width = |at: usize| all().map(|row| row[at].width()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in all() {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let blanks = " ".repeat(widths[at] - cell.width());
            let (before, after) =
                if right[at] { (blanks.as_str(), "") } else { ("", blanks.as_str()) };
            line.extend([before, cell.as_str(), after, "  "]);
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(json: bool) -> String {
        let list = [("a", 5), ("longer\x1b[2J", 123)];
        let mut out = Vec::new();
        let row = |entry: &(&str, u32)| [entry.0.to_owned(), entry.1.to_string()];
        print(&mut out, &list, json, ["NAME", "NUMBER"], row).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let expect = "NAME        NUMBER\na                5\nlonger\u{241b}[2J     123\n";
        assert_eq!(printed(false), expect);
    }

    #[test]
    fn json_is_one_entry_a_line() {
        assert_eq!(printed(true), "[\"a\",5]\n[\"longer\\u001b[2J\",123]\n");
    }
}
