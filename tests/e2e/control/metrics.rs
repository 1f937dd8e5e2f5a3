//! Metrics of a running lab, with promtool as their reader: the parsers and the query engine of Prometheus.

use super::*;

/// A file in the socket's folder.
fn write(socket: &Socket, name: &str, text: &str) -> String {
    let path = socket.folder.path().join(name);
    fs::write(&path, text).expect("write a file");
    path.display().to_string()
}

/// Series and value of each sample.
pub(super) fn samples(page: &str) -> Vec<(&str, &str)> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a sample"))
        .collect()
}

fn sample(page: &str, series: &str) -> u64 {
    let samples = samples(page);
    let found = samples.iter().find(|(name, _)| *name == series);
    let (_, value) = found.unwrap_or_else(|| panic!("{series} in {page}"));
    value.parse().expect("a number")
}

/// The edges of the bucket that `value` is in, in seconds, as the labels of `series` have them.
pub(super) fn edges_around<'a>(page: &'a str, series: &str, value: f64) -> (&'a str, &'a str) {
    let of_series = samples(page).into_iter().filter_map(|(name, _)| {
        let labels = name.strip_prefix(series)?.strip_prefix("_bucket{le=\"")?;
        labels.strip_suffix("\"}")
    });
    let edges: Vec<&str> = of_series.collect();
    let number = |edge: &str| edge.parse::<f64>().expect("an edge");
    let upper = edges.iter().position(|edge| number(edge) >= value);
    let upper = upper.expect("an edge above");
    (edges[upper - 1], edges[upper])
}

/// A file of promtool's that asks whether the quantiles of `page` are in the same buckets as those of `report`.
fn rules(page: &str, report: &Value) -> String {
    let mut rules = "tests:\n- interval: 1m\n  input_series:\n".to_owned();
    for (series, value) in samples(page) {
        rules += &format!("  - series: '{series}'\n    values: '{value}'\n");
    }
    rules += "  promql_expr_test:\n";
    for metric in ["rtt", "response"] {
        for (quantile, name) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99_9")] {
            let value = number(report, &format!("/{metric}_ns/{name}")) as f64 / 1e9;
            let series = format!("tap_reactor_{metric}_seconds");
            let (lower, upper) = edges_around(page, &series, value);
            let found = format!("histogram_quantile({quantile}, sum by (le) ({series}_bucket))");
            rules += &format!(
                "  - expr: '({found} > bool {lower}) * ({found} <= bool {upper})'\n    \
                 exp_samples: [{{labels: '{{}}', value: 1}}]\n"
            );
        }
    }
    rules
}

#[test]
fn prometheus_reads_a_simulated_run_as_its_report_has_it() {
    let lab = Lab::new();
    let socket = Socket::new();
    let run = socket.start(
        &lab,
        "--fabric sim --ping vm0:vm1 --count 1000 --interval 1ms --stay \
         --impair vm1:delay=3ms±2ms,loss=3%",
    );
    socket.wait_for("/", "the end of the run", |lab| lab["state"] == "over");
    let report = socket.get("/report");
    let page = socket.text("/metrics", &[]);
    for count in ["sent", "received", "lost", "late", "reordered"] {
        assert_eq!(
            sample(&page, &format!("tap_reactor_pings_{count}_total")),
            number(&report, &format!("/totals/{count}")),
            "{count}"
        );
    }
    assert!(number(&report, "/totals/lost") > 0, "{report}");
    assert_eq!(sample(&page, "tap_reactor_pings_outstanding"), 0);
    // The format, and what Prometheus advises about names.
    let text = write(&socket, "text", &page);
    let told =
        succeed(Command::new("sh").args(["-c", &format!("promtool check metrics <{text} 2>&1")]));
    assert_eq!(told, "");
    // Quantiles, by Prometheus's own query engine.
    let rules = write(&socket, "rules.yml", &rules(&page, &report));
    succeed(Command::new("promtool").args(["test", "rules", &rules]));
    // OpenMetrics; promtool wants a time with each sample.
    let open = socket.text(
        "/metrics",
        &["-H", "Accept: application/openmetrics-text;version=1.0.0"],
    );
    let timed: Vec<String> = open
        .lines()
        .map(|line| match line.starts_with('#') {
            true => format!("{line}\n"),
            false => format!("{line} 1700000000\n"),
        })
        .collect();
    let timed = write(&socket, "open", &timed.concat());
    let blocks = socket.folder.path().join("blocks");
    let read = ["tsdb", "create-blocks-from", "openmetrics", &timed];
    succeed(Command::new("promtool").args(read).arg(&blocks));
    let stored = fs::read_dir(blocks).expect("blocks").count();
    assert_eq!(stored, 1, "a block with the samples");
    run.signal(SIGINT);
    run.wait();
}

#[test]
fn counters_of_a_lab_that_lives_grow_from_scrape_to_scrape() {
    let lab = Lab::new();
    let socket = Socket::new();
    let run = socket.start(&lab, "--netns host --vms 3 --ping vm0:vm1 --interval 1ms");
    let received = |page: &str| sample(page, "tap_reactor_pings_received_total");
    let first = socket.text("/metrics", &[]);
    let second = wait_until("more answers", || {
        let page = socket.text("/metrics", &[]);
        (received(&page) > received(&first) + 50).then_some(page)
    });
    assert_eq!(sample(&second, "tap_reactor_vms"), 3);
    assert_eq!(sample(&second, "tap_reactor_flows"), 1);
    assert!(sample(&second, "process_resident_memory_bytes") > 1 << 20);
    let count = "tap_reactor_rtt_seconds_count";
    assert_eq!(sample(&second, count), received(&second));
    socket.ask("/stop", &["-X", "POST"]);
    run.wait();
}
