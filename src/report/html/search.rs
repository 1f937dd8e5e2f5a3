//! The page of a search.

use std::io::{self, Write};

use super::super::search::SearchReport;
use super::super::svg;
use super::super::units::{percent, span};
use super::{Cell, Escaped, begin_page, end_page, figure, table};

/// Writes what a search has found as a page: a sentence for each goal, the curves of loss and of the 99th percentile of the rtt
/// over the load, and every trial. The page is one file that needs nothing from elsewhere.
///
/// # Errors
/// When `out` can't be written to.
pub fn search_html(report: &SearchReport, out: &mut impl Write) -> io::Result<()> {
    begin_page(&format!("tap-reactor: search for {}", report.axis), out)?;
    let run = Escaped(&report.run);
    let mut body = format!(
        "<header>\n<h1>How much is carried</h1>\n<p><code>{run}</code></p>\n<p class=\"quiet\">{} trials in {}{}</p>\n</header>\n",
        report.trials.len(),
        span(report.elapsed_ns),
        if report.interrupted {
            ", ended before it was done"
        } else {
            ""
        },
    );
    for goal in &report.goals {
        let (name, sentence) = (Escaped(&goal.goal), Escaped(&goal.sentence));
        let class = if goal.lower.is_some() { "plain" } else { "bad" };
        body += &format!("<p class=\"verdict {class}\"><code>{name}</code>: {sentence}</p>\n");
    }
    for outcome in &report.expectations {
        let class = if outcome.holds { "plain" } else { "bad" };
        let words = outcome.to_string();
        body += &format!("<p class=\"verdict {class}\">{}</p>\n", Escaped(&words));
    }
    for what in &report.shortcomings {
        body += &format!("<p class=\"verdict bad\">{}</p>\n", Escaped(what));
    }
    let mut trials: Vec<_> = report.trials.iter().collect();
    trials.sort_by(|one, other| one.load.total_cmp(&other.load));
    let valid = || trials.iter().filter(|trial| trial.valid);
    let loss: svg::Line = valid().map(|trial| (trial.load, trial.loss)).collect();
    let p99: svg::Line = valid()
        .filter_map(|trial| Some((trial.load, trial.p99()? as f64)))
        .collect();
    let show = |load: f64| report.show(load);
    if loss.len() > 1 {
        body += &figure(
            "Loss by load",
            "The share of the pings, or of the frames of streams, that failed.",
            &[],
            |size| svg::share_over_load(&loss, size, &show),
        )?;
    }
    if p99.len() > 1 {
        let note = "The 99th percentile of the times of each trial.";
        body += &figure(
            &format!("{} by load", report.p99_title()),
            note,
            &[],
            |size| svg::over_load(&p99, size, &show),
        )?;
    }
    let headings = [
        "load",
        "for",
        "sent",
        "failed",
        "lost",
        report.p99_title(),
        "goals met",
    ];
    let rows = trials.iter().map(|trial| {
        let met = trial.good.iter().filter(|good| **good).count();
        vec![
            Cell::sorted_by(show(trial.load), Some(trial.load)),
            Cell::nanos(Some(trial.duration_ns)),
            Cell::number(trial.sent),
            Cell::number(trial.failed),
            Cell::sorted_by(percent(trial.loss), Some(trial.loss)),
            Cell::nanos(trial.p99()),
            Cell::sorted_by(
                match trial.valid {
                    true => format!("{met} of {}", trial.good.len()),
                    false => "not valid: the tool was the limit".to_owned(),
                },
                trial.valid.then_some(met),
            ),
        ]
    });
    let table = table(&headings, rows, true);
    body += &format!("<section>\n<h2>Trials</h2>\n{table}</section>\n");
    out.write_all(body.as_bytes())?;
    end_page(out)
}
