//! Prometheus itself, which scrapes labs over TCP where their user is, and what we give its users: a dashboard of Grafana's, and
//! an experiment with alert rules.

use std::collections::{BTreeMap, BTreeSet};

use tempfile::TempDir;

use super::metrics::{edges_around, samples};
use super::tcp::addresses;
use super::*;
use crate::lab::{Running, repository_file};

/// A server in the namespace of a test, where it has the loopback interface for itself.
struct Prometheus<'a> {
    lab: &'a Lab,
    _server: Running,
    _folder: TempDir,
}

impl Prometheus<'_> {
    const ADDRESS: &'static str = "127.0.0.1:9090";

    /// Starts a server that scrapes `targets`, each with the name of its job, and waits until it answers.
    fn start<'a>(lab: &'a Lab, targets: &[(&str, &str)]) -> Prometheus<'a> {
        let folder = TempDir::new().expect("a folder");
        let jobs = targets.iter().map(|(job, address)| {
            format!("- {{ job_name: {job}, static_configs: [{{ targets: [\"{address}\"] }}] }}\n")
        });
        let config = "global: { scrape_interval: 200ms }\nscrape_configs:\n";
        let config = [config.to_owned()]
            .into_iter()
            .chain(jobs)
            .collect::<String>();
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("write the configuration");
        let mut server = lab.start(&[
            "prometheus",
            &format!("--config.file={}", file.display()),
            &format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ),
            &format!("--web.listen-address={}", Prometheus::ADDRESS),
        ]);
        let url = format!("http://{}/-/ready", Prometheus::ADDRESS);
        wait_until("a server that is ready", || {
            server.expect_alive();
            let answer = lab.run(&["curl", "-sS", "--fail", "--max-time", "5", &url]);
            (answer.status == 0).then_some(())
        });
        Prometheus {
            lab,
            _server: server,
            _folder: folder,
        }
    }

    /// The values that an expression has now. It must be one.
    fn query(&self, expression: &str) -> Vec<f64> {
        let url = format!("http://{}/api/v1/query", Prometheus::ADDRESS);
        let query = format!("query={expression}");
        let curl = [
            "curl",
            "-sS",
            "--max-time",
            "20",
            &url,
            "--data-urlencode",
            &query,
        ];
        let answer = self.lab.run(&curl);
        let document: Value =
            serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
        assert_eq!(document["status"], "success", "{expression}: {document}");
        let results = document["data"]["result"].as_array().expect("a vector");
        let values = results
            .iter()
            .map(|one| one["value"][1].as_str().expect("a value"));
        values
            .map(|value| value.parse().expect("a number"))
            .collect()
    }

    fn wait_for(&self, expression: &str) {
        wait_until(expression, || {
            self.query(expression).contains(&1.0).then_some(())
        });
    }
}

#[test]
fn prometheus_scrapes_a_lab_that_lives_and_has_the_quantiles_of_one_that_is_over() {
    let lab = Lab::new();
    let socket = Socket::new();
    let mut over = socket.start(
        &lab,
        "--fabric sim --ping vm0:vm1 --count 1000 --interval 1ms --stay --impair vm1:delay=3ms±2ms,loss=3% \
         --metrics 127.0.0.1:0",
    );
    let over_at = addresses(&mut over, "metrics", 1).remove(0);
    let mut lives = lab.start_tap_reactor(
        "--netns private --vms 3 --ping vm0:vm1 --interval 1ms --metrics [::1]:0",
    );
    let lives_at = addresses(&mut lives, "metrics", 1).remove(0);
    socket.wait_for("/", "the end of the run", |lab| lab["state"] == "over");
    let server = Prometheus::start(&lab, &[("over", &over_at), ("lives", &lives_at)]);
    for job in ["over", "lives"] {
        server.wait_for(&format!("up{{job=\"{job}\"}} == 1"));
    }
    // Of the one that lives, pings are counted from scrape to scrape, in a time that the server measures.
    server.wait_for("tap_reactor_pings_sent_total{job=\"lives\"} > bool 0");
    server.wait_for("increase(tap_reactor_pings_sent_total{job=\"lives\"}[1m]) > bool 500");
    server.wait_for("tap_reactor_vms{job=\"lives\"} == bool 3");
    // Of the one that is over, figures are those of the report.
    let report = socket.get("/report");
    let page = socket.text("/metrics", &[]);
    server.wait_for("tap_reactor_pings_sent_total{job=\"over\"} == bool 1000");
    for metric in ["rtt", "response"] {
        for (quantile, name) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99_9")] {
            let told = number(&report, &format!("/{metric}_ns/{name}")) as f64 / 1e9;
            let series = format!("tap_reactor_{metric}_seconds");
            let (lower, upper) = edges_around(&page, &series, told);
            let found = server.query(&format!(
                "histogram_quantile({quantile}, sum by (le) ({series}_bucket{{job=\"over\"}}))"
            ));
            let number = |edge: &str| edge.parse::<f64>().expect("an edge");
            let is_near = |value: &f64| *value > number(lower) && *value <= number(upper);
            assert!(
                found.iter().all(is_near) && found.len() == 1,
                "{metric} {name}: {told} {found:?}"
            );
        }
    }
    // One that ends is gone.
    lives.signal(SIGINT);
    lives.wait().expect_status(0);
    server.wait_for("up{job=\"lives\"} == bool 0");
    over.signal(SIGINT);
    // Some of its pings were lost.
    over.wait().expect_status(1);
}

/// The expressions of a dashboard, with the title of the panel of each.
fn expressions(dashboard: &Value) -> Vec<(&str, &str)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let of_panel = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array();
        let targets = targets.into_iter().flatten();
        targets.map(move |target| (title, target["expr"].as_str().expect("an expression")))
    });
    of_panel.collect()
}

/// The labels that each metric has in `page`.
fn labels_of(page: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (series, _) in samples(page) {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',');
        let names = labels.filter_map(|label| Some(label.split_once('=')?.0));
        all.entry(name).or_default().extend(names);
    }
    all
}

/// The words of an expression that are names, each with what follows it.
fn words(expression: &str) -> Vec<(&str, &str)> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = expression;
    let mut found = Vec::new();
    while let Some(start) = rest.find(is_of_word) {
        let word = &rest[start..];
        let end = word.find(|c| !is_of_word(c)).unwrap_or(word.len());
        rest = &word[end..];
        found.push((&word[..end], rest.trim_start()));
    }
    found
}

#[test]
fn each_expression_of_the_dashboard_is_one_and_names_metrics_and_labels_that_there_are() {
    let lab = Lab::new();
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("groups.toml");
    fs::write(&file, "[[group]]\nname = 'a'\nvms = 2\n").expect("write a scenario");
    // Divided into phases, so that these have names; one with groups and one without.
    let arguments = "--fabric sim --ping vm0:vm1 --count 100 --interval 1ms --warmup 10ms --stay --metrics 127.0.0.1:0";
    let groups = format!("{arguments} --scenario {}", file.display());
    let [mut run, mut plain] = [&groups, arguments].map(|words| lab.start_tap_reactor(words));
    let address = addresses(&mut run, "metrics", 1).remove(0);
    let plain_address = addresses(&mut plain, "metrics", 1).remove(0);
    let page = lab
        .run(&["curl", "-sS", &format!("http://{address}/metrics")])
        .stdout;
    let labels = labels_of(&page);
    let targets = [("tap-reactor", &*address), ("plain", &*plain_address)];
    let server = Prometheus::start(&lab, &targets);
    server.wait_for("sum(up) == bool 2");
    let file = fs::read_to_string(repository_file("scripts/grafana/tap-reactor.json"));
    let dashboard: Value = serde_json::from_str(&file.expect("the dashboard")).expect("JSON");
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    let variables: Vec<_> = variables.iter().map(|one| one["name"].as_str()).collect();
    let names = [Some("datasource"), Some("instance"), Some("group")];
    assert_eq!(variables, names);
    // All groups are all pings, in a lab without groups, too.
    let group = &dashboard["templating"]["list"][2];
    let all = group["allValue"].as_str().expect("a value for all");
    for job in ["tap-reactor", "plain"] {
        let sent = format!(
            "sum(tap_reactor_pings_sent_total{{job=\"{job}\", group=~\"{all}\", phase!=\"warm-up\"}})"
        );
        server.wait_for(&format!("{sent} == bool 100"));
    }
    let found = expressions(&dashboard);
    assert!(found.len() > 30, "{found:?}");
    let mut used = BTreeSet::new();
    for (title, expression) in found {
        let filled = expression
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".+")
            .replace("$group", all);
        assert!(!filled.contains('$'), "{title}: {filled}");
        server.query(&filled);
        // What stands before a matcher or in a list of labels is a label of the metrics in the expression, or the server's.
        let names: Vec<&str> = words(&filled).into_iter().map(|(word, _)| word).collect();
        let is_metric =
            |name: &&str| name.starts_with("tap_reactor_") || name.starts_with("process_");
        let metrics: BTreeSet<&str> = names.into_iter().filter(is_metric).collect();
        assert!(!metrics.is_empty(), "{title}: {filled}");
        let mut known = BTreeSet::from(["instance", "job"]);
        for metric in &metrics {
            let own = labels
                .get(metric)
                .unwrap_or_else(|| panic!("{title}: there is no {metric}"));
            known.extend(own);
        }
        let mut lists = filled
            .split("by (")
            .skip(1)
            .chain(filled.split("on (").skip(1));
        let listed: BTreeSet<&str> = lists
            .by_ref()
            .flat_map(|rest| rest.split(')').next().unwrap_or_default().split(", "))
            .collect();
        let matched = words(&filled).into_iter();
        let matched = matched.filter(|(_, rest)| {
            ["=~", "=\"", "!=", "!~"]
                .iter()
                .any(|op| rest.starts_with(op))
        });
        for label in matched.map(|(word, _)| word).chain(listed) {
            assert!(known.contains(label), "{title}: {label} in {filled}");
        }
        used.extend(metrics.into_iter().map(str::to_owned));
    }
    // Each way in which a ping ends, and each gauge, is on it.
    for name in labels
        .keys()
        .filter(|name| name.contains("_pings_") || !name.contains("_seconds_"))
    {
        assert!(used.contains(*name), "{name} is on no panel");
    }
    for run in [run, plain] {
        run.signal(SIGINT);
        run.wait().expect_status(0);
    }
}

#[test]
fn the_soak_experiment_runs_for_some_seconds_without_an_alert_and_its_rules_fire_when_they_should()
{
    let folder = repository_file("scripts/experiments/soak");
    for (what, name) in [("check", "rules.yml"), ("test", "rules-test.yml")] {
        let file = folder.join(name);
        succeed(Command::new("promtool").args([what, "rules"]).arg(file));
    }
    let config = folder.join("prometheus.yml");
    succeed(
        Command::new("promtool")
            .args(["check", "config"])
            .arg(config),
    );
    let lab = Lab::new();
    let script = repository_file("scripts/experiments/soak.sh")
        .display()
        .to_string();
    let program = format!("TAP_REACTOR={TAP_REACTOR}");
    let run = lab.run(&["env", &program, &script, "2"]);
    // All pings were answered, and no alert fires.
    assert_eq!(run.status, 0, "{run:?}");
    let counted = run.stdout.lines().next().unwrap_or_default();
    let counted = counted.strip_prefix("Prometheus has counted ");
    let counted = counted.and_then(|rest| rest.strip_suffix(" pings")?.parse().ok());
    assert!(counted.is_some_and(|pings: u32| pings >= 90), "{run:?}");
}
