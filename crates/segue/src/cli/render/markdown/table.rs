//! Tables, which are laid out when their last row is there.

use unicode_width::UnicodeWidthChar as _;

use super::{super::Style, inline};

type Cell = Vec<(char, Style)>;

/// The rows of a table as text, each with its line break; none if they are wider than `width`.
pub(super) fn laid_out(lines: &[String], width: usize) -> Option<String> {
    let head = lines.get(1).is_some_and(|line| is_separator(line));
    let rows: Vec<Vec<Cell>> = lines
        .iter()
        .enumerate()
        .filter(|(at, _)| !(head && *at == 1))
        .map(|(at, line)| cells(line, if head && at == 0 { Style::BOLD } else { Style::PLAIN }))
        .collect();
    let columns = rows.iter().map(Vec::len).max()?;
    let of_column = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let widths: Vec<usize> =
        (0..columns).map(|column| of_column(column).map(wide).max().unwrap_or(0)).collect();
    if widths.iter().sum::<usize>() + 3 * columns.saturating_sub(1) > width {
        return None;
    }
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        put_row(row, &widths, &mut out);
        if head && at == 0 {
            let lines: Vec<String> = widths.iter().map(|wide| "\u{2500}".repeat(*wide)).collect();
            out.push_str(&Style::DIM.paint(&lines.join("\u{2500}\u{253c}\u{2500}")));
            out.push('\n');
        }
    }
    Some(out)
}

fn put_row(row: &[Cell], widths: &[usize], out: &mut String) {
    for (column, width) in widths.iter().enumerate() {
        if column > 0 {
            out.push_str(&Style::DIM.paint(" \u{2502} "));
        }
        let empty = Vec::new();
        let cell = row.get(column).unwrap_or(&empty);
        let mut painted = Style::PLAIN;
        for (c, style) in cell {
            if *style != painted {
                out.push_str(painted.end());
                out.push_str(&style.begin());
                painted = *style;
            }
            out.push(*c);
        }
        out.push_str(painted.end());
        if column + 1 < widths.len() {
            out.extend(std::iter::repeat_n(' ', width - wide(cell)));
        }
    }
    out.push('\n');
}

fn wide(cell: &Cell) -> usize {
    cell.iter().filter_map(|(c, _)| c.width()).sum()
}

fn cells(line: &str, style: Style) -> Vec<Cell> {
    split(line).into_iter().map(|text| cell(&text, style)).collect()
}

fn cell(text: &str, style: Style) -> Cell {
    let mut cell = Vec::new();
    inline::take(text, style, &mut ' ', true, &mut |c, style| cell.push((c, style)));
    cell
}

/// The texts between bars; a bar behind a backslash is text.
fn split(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|');
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for c in line.chars() {
        let cell = cells.last_mut().expect("there is always one");
        match c {
            '|' if escaped => {
                cell.pop();
                cell.push(c);
            }
            '|' => cells.push(String::new()),
            '\t' => cell.push(' '),
            _ => cell.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    if cells.last().is_some_and(|cell| cell.trim().is_empty()) {
        cells.pop();
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

fn is_separator(line: &str) -> bool {
    line.contains('-') && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn columns_line_up() {
        let table = lines("| a | long head |\n|---|:--:|\n| `xx` | \u{4e2d} |\n| a\\|b |");
        let shown = laid_out(&table, 80).unwrap();
        let bar = Style::DIM.paint(" \u{2502} ");
        let expect = format!(
            "\x1b[1ma\x1b[0m  {bar}\x1b[1mlong head\x1b[0m\n\
             \x1b[2m\u{2500}\u{2500}\u{2500}\u{2500}\u{253c}\u{2500}{}\x1b[0m\n\
             \x1b[36mxx\x1b[0m {bar}\u{4e2d}\n\
             a|b{bar}\n",
            "\u{2500}".repeat(9)
        );
        assert_eq!(shown, expect);
    }

    #[test]
    fn a_table_that_is_too_wide_is_not_laid_out() {
        assert_eq!(laid_out(&lines("| aaaaaaaaaa | bbbbbbbbbb |"), 20), None);
        assert_eq!(laid_out(&[], 20), None);
    }
}
