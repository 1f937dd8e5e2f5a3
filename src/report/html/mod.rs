//! Reports as pages: one file each, which needs nothing from elsewhere.

mod compare;
mod flows;
mod losses;
mod marks;
mod misbehaviours;
mod path_split;
mod run;
mod search;

use std::fmt;
use std::io::{self, Write};

use super::svg::{COLORS, Size};
use super::units::{count, percent, span_or_dash};
use crate::escape::is_hidden;

pub use compare::{MOST_RUNS, compare_html};
pub use run::html;
pub(super) use run::html_piece;
pub use search::search_html;

const STYLE: &str = include_str!("page.css");
const SORT: &str = include_str!("sort.js");

/// The classes of the colours of a picture, in their order.
const KEYS: [&str; COLORS.len()] = ["a", "b", "c", "d", "e", "f"];

/// Writes the begin of a page, up to its body.
fn begin_page(title: &str, out: &mut impl Write) -> io::Result<()> {
    let title = Escaped(title);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n"
    )
}

/// Writes the end of a page, behind its body.
fn end_page(out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "</main>\n<script>\n{SORT}</script>\n</body>\n</html>\n"
    )
}

/// Text that is shown as it is, whatever it holds.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|each| match each {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // A page is read as text, too, and bidirectional controls make it look like another.
            each if is_hidden(each) => write!(f, "{}", each.escape_default()),
            each => fmt::Write::write_char(f, each),
        })
    }
}

/// A picture with its title, what it shows in a sentence, and what its colours mean. `draw` gives it as SVG.
fn figure(
    title: &str,
    note: &str,
    keys: &[&str],
    draw: impl Fn(Size) -> io::Result<String>,
) -> io::Result<String> {
    Ok(begin_figure(title, note, keys, draw(Size::Wide)?) + &end_figure(draw(Size::Narrow)?))
}

/// The begin of a figure, with its picture for wide screens.
fn begin_figure(title: &str, note: &str, keys: &[&str], wide: String) -> String {
    let mut keys_html = String::new();
    for (key, class) in keys.iter().zip(KEYS) {
        keys_html += &format!("<span class=\"key {class}\">{}</span>", Escaped(key));
    }
    let (title, note) = (Escaped(title), Escaped(note));
    format!(
        "<figure>\n<figcaption>\n<h2>{title}</h2>\n<p class=\"quiet\">{note}</p>\n<div class=\"keys\">{keys_html}</div>\n\
         </figcaption>\n<div class=\"wide\">{}</div>\n",
        hidden(wide)
    )
}

/// The end of a figure, with its picture for narrow screens.
fn end_figure(narrow: String) -> String {
    let narrow = hidden(narrow);
    format!("<div class=\"narrow\">{narrow}</div>\n</figure>\n")
}

/// What a picture says is in the tables too.
fn hidden(svg: String) -> String {
    svg.replacen("<svg ", "<svg aria-hidden=\"true\" ", 1)
}

/// More rows than this of a table are not listed: a browser must be able to show the page.
const ROWS_LISTED: usize = 1_000;

/// Rows in a piece of a table.
const ROWS: usize = 50;

/// A cell of a table: what it says, and what it is sorted by.
struct Cell {
    text: String,
    value: Option<String>,
}

impl Cell {
    fn new(text: impl Into<String>) -> Cell {
        Cell {
            text: text.into(),
            value: None,
        }
    }

    fn sorted_by(text: impl Into<String>, value: Option<impl ToString>) -> Cell {
        Cell {
            text: text.into(),
            value: value.map(|value| value.to_string()),
        }
    }

    /// Words, sorted by themselves.
    fn words(words: impl Into<String>) -> Cell {
        let words = words.into();
        Cell::sorted_by(words.clone(), Some(words))
    }

    fn number(number: u64) -> Cell {
        Cell::sorted_by(count(number), Some(number))
    }

    /// A share of 1.
    fn percent(share: f64) -> Cell {
        Cell::sorted_by(percent(share), Some(share))
    }

    fn nanos(nanos: Option<u64>) -> Cell {
        Cell::sorted_by(span_or_dash(nanos), nanos)
    }
}

/// A table; with `sortable` its headings sort it, the first column by its words, the others by their numbers.
fn table(headings: &[&str], rows: impl Iterator<Item = Vec<Cell>>, sortable: bool) -> String {
    begin_table(headings, sortable) + &table_rows(rows) + END_TABLE
}

/// The end of a table.
const END_TABLE: &str = "</tbody></table></div>\n";

/// The begin of a table, up to its first row.
fn begin_table(headings: &[&str], sortable: bool) -> String {
    let mut html = String::from("<div class=\"scroll\"><table");
    html += if sortable {
        " class=\"sortable\">"
    } else {
        ">"
    };
    html += "<thead><tr>";
    for (column, heading) in headings.iter().enumerate() {
        let heading = Escaped(heading);
        html += &match (sortable, column) {
            (false, _) => format!("<th scope=\"col\">{heading}</th>"),
            (true, 0) => format!(
                "<th scope=\"col\" data-words><button type=\"button\">{heading}</button></th>"
            ),
            (true, _) => {
                format!("<th scope=\"col\"><button type=\"button\">{heading}</button></th>")
            }
        };
    }
    html + "</tr></thead>\n<tbody>\n"
}

fn table_rows(rows: impl Iterator<Item = Vec<Cell>>) -> String {
    let mut html = String::new();
    for row in rows {
        html += "<tr>";
        for Cell { text, value } in row {
            html += "<td";
            if let Some(value) = value {
                html += &format!(" data-v=\"{}\"", Escaped(&value));
            }
            html += &format!(">{}</td>", Escaped(&text));
        }
        html += "</tr>\n";
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shown_can_become_a_tag_or_end_an_attribute() {
        let text = Escaped("<script>alert('&\"')</script>").to_string();
        assert_eq!(
            text,
            "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;"
        );
    }

    #[test]
    fn cells_carry_what_they_are_sorted_by() {
        let row = vec![
            Cell::sorted_by("a<b", Some("\"x")),
            Cell::sorted_by("–", None::<u64>),
        ];
        let html = table(&["one", "two"], [row].into_iter(), true);
        assert!(
            html.contains("<td data-v=\"&quot;x\">a&lt;b</td><td>–</td>"),
            "{html}"
        );
        assert!(html.contains("data-words><button"), "{html}");
    }
}
