//! Metrics of a running lab, with promtool as their reader: the parsers and the query engine of Prometheus.

use super::*;

/// A file in the socket's folder.
fn write(socket: &Socket, name: &str, text: &str) -> String {
    let path = socket.file(name);
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

/// Has promtool read both formats of the metrics.
fn promtool_reads(socket: &Socket) {
    // The format, and what Prometheus advises about names.
    let text = write(socket, "text", &socket.text("/metrics", &[]));
    let told =
        succeed(Command::new("sh").args(["-c", &format!("promtool check metrics <{text} 2>&1")]));
    assert_eq!(told, "");
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
    let timed = write(socket, "open", &timed.concat());
    let blocks = socket.file("blocks");
    let read = ["tsdb", "create-blocks-from", "openmetrics", &timed];
    succeed(Command::new("promtool").args(read).arg(&blocks));
    let stored = fs::read_dir(blocks).expect("blocks").count();
    assert_eq!(stored, 1, "a block with the samples");
}

/// The sum of the samples of `name` whose label `group` is one of `groups`, or of all.
fn sum(page: &str, name: &str, groups: Option<&[&str]>) -> u64 {
    let of_name = samples(page).into_iter().filter(|(series, _)| {
        let labels = series.strip_prefix(name);
        labels.is_some_and(|labels| labels.is_empty() || labels.starts_with('{'))
    });
    let of_groups = of_name.filter(|(series, _)| {
        let group = series.split_once("group=\"").map(|(_, rest)| rest);
        let group = group.map_or("", |rest| rest.split('"').next().unwrap_or_default());
        groups.is_none_or(|groups| groups.contains(&group))
    });
    of_groups
        .map(|(_, value)| value.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn the_loss_of_one_group_is_under_its_label_alone() {
    let lab = Lab::new();
    let socket = Socket::new();
    let scenario = "timeout = '200ms'\nresolve = 'static'\nping = ['guest:vm0', 'resident:vm0', 'vm5:vm0']\ncount = 300\n\
         impair = ['guest:loss=100%']\n\
         [[group]]\nname = 'resident'\nvms = 3\n[[group]]\nname = 'guest'\nvms = 2\n[[group]]\nvms = 1\n\
         [[phase]]\nname = 'first'\ncount = 200\ninterval = '1ms'\n[[phase]]\nname = 'second'\ninterval = '1ms'\n";
    let file = write(&socket, "groups.toml", scenario);
    let words = format!("--netns host --scenario {file} --stay");
    let run = socket.start(&lab, &words);
    socket.wait_for("/", "the end of the phases", |lab| {
        lab["state"] == "serving"
    });
    // A VM that was added is in no group.
    socket.post("/vms", &json!({ "vms": 1 }));
    socket.post("/flows", &json!({ "ping": "vm6:vm0", "rate": 500.0 }));
    socket.post("/flows", &json!({ "ping": "vm4:vm0", "rate": 500.0 }));
    let (guest, others) = (Some(&["guest"][..]), Some(&["resident", ""][..]));
    let name = |name: &str| format!("tap_reactor_{name}");
    let lost = |page: &str| sum(page, &name("pings_lost_total"), None);
    let before = lost(&socket.text("/metrics", &[]));
    let page = wait_until("more losses and more answers", || {
        let page = socket.text("/metrics", &[]);
        let ungrouped = sum(&page, &name("pings_received_total"), Some(&[""]));
        (lost(&page) > before + 5 && ungrouped > 250).then_some(page)
    });
    let of = |words: &str, groups| sum(&page, &name(words), groups);
    assert_eq!(of("pings_lost_total", others), 0, "{page}");
    assert!(of("pings_lost_total", guest) > before, "{page}");
    assert_eq!(of("pings_received_total", guest), 0, "{page}");
    assert!(of("pings_sent_total", guest) > before, "{page}");
    assert_eq!(of("rtt_seconds_count", guest), 0, "{page}");
    for group in [&["resident"][..], &[""]] {
        let group = Some(group);
        let received = of("pings_received_total", group);
        assert!(received > 100, "{page}");
        assert_eq!(of("rtt_seconds_count", group), received, "{page}");
        assert_eq!(of("response_seconds_count", group), received, "{page}");
    }
    assert_eq!(
        of("lateness_seconds_count", None),
        of("pings_sent_total", None)
    );
    promtool_reads(&socket);
    socket.ask("/stop", &["-X", "POST"]);
    run.wait();
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
    // Quantiles, by Prometheus's own query engine.
    let rules = write(&socket, "rules.yml", &rules(&page, &report));
    succeed(Command::new("promtool").args(["test", "rules", &rules]));
    promtool_reads(&socket);
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
