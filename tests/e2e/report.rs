//! The report that `--json` prints, as its readers may rely on it: every field of the documented shape, and the
//! relations that must hold between them whatever was measured.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::lab::Finished;

#[derive(Deserialize, Debug)]
pub struct Report {
    pub schema: Value,
    pub elapsed_ns: u64,
    pub waited_ns: u64,
    pub rate_per_s: f64,
    pub setup_ns: u64,
    pub totals: Totals,
    pub rtt_ns: Distribution,
    pub resolution_ns: Distribution,
    pub lateness_ns: Distribution,
    pub lag_ns: Distribution,
    pub flows: Vec<Flow>,
    pub drops: BTreeMap<String, u64>,
    pub reactor: Reactor,
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy, Debug)]
pub struct Totals {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub unresolved: u64,
    pub duplicate: u64,
    pub late: u64,
    pub corrupt: u64,
}

/// A distribution of nothing has a count and no figures.
#[derive(Deserialize, Debug)]
pub struct Distribution {
    pub count: u64,
    #[serde(deserialize_with = "figure")]
    pub min: f64,
    #[serde(deserialize_with = "figure")]
    pub mean: f64,
    #[serde(deserialize_with = "figure")]
    pub stdev: f64,
    #[serde(deserialize_with = "figure")]
    pub p50: f64,
    #[serde(deserialize_with = "figure")]
    pub p90: f64,
    #[serde(deserialize_with = "figure")]
    pub p99: f64,
    #[serde(deserialize_with = "figure")]
    pub p99_9: f64,
    #[serde(deserialize_with = "figure")]
    pub max: f64,
}

/// A number that must be there, or `null`, which is not a number.
fn figure<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[derive(Deserialize, Debug)]
pub struct Flow {
    pub src: String,
    pub dst: String,
    pub totals: Totals,
    pub rtt_ns: Distribution,
}

#[derive(Deserialize, Debug)]
pub struct Reactor {
    pub turns: u64,
    pub frames_in: u64,
    pub frames_out: u64,
}

impl Report {
    /// The report of a run that must have ended with status 0, every one of its `pings` answered.
    #[track_caller]
    pub fn of_success(run: Finished, pings: u64) -> Report {
        let report = Report::of(&run.expect_status(0));
        let totals = report.totals;
        assert_eq!(
            (totals.sent, totals.received, totals.lost),
            (pings, pings, 0),
            "{totals:?}"
        );
        report
    }

    /// The report of a finished run. Standard output must hold that document and nothing else, and the figures in
    /// it must agree with each other.
    #[track_caller]
    pub fn of(run: &Finished) -> Report {
        let report: Report = serde_json::from_str(&run.stdout).unwrap_or_else(|error| {
            panic!(
                "{error}\n--- stdout ---\n{}\n--- stderr ---\n{}",
                run.stdout, run.stderr
            )
        });
        report.check();
        report
    }

    #[track_caller]
    fn check(&self) {
        let sum = |part: fn(&Totals) -> u64| {
            self.flows
                .iter()
                .map(|flow| part(&flow.totals))
                .sum::<u64>()
        };
        let of_flows = Totals {
            sent: sum(|t| t.sent),
            received: sum(|t| t.received),
            lost: sum(|t| t.lost),
            unresolved: sum(|t| t.unresolved),
            duplicate: sum(|t| t.duplicate),
            late: sum(|t| t.late),
            corrupt: sum(|t| t.corrupt),
        };
        assert_eq!(
            self.totals, of_flows,
            "the totals are the sums of the flows"
        );
        assert!(
            self.totals.received + self.totals.lost <= self.totals.sent,
            "{self:?}"
        );
        assert_eq!(
            self.rtt_ns.count, self.totals.received,
            "one round-trip time for each ping answered"
        );
        for distribution in [
            &self.rtt_ns,
            &self.resolution_ns,
            &self.lateness_ns,
            &self.lag_ns,
        ] {
            distribution.check();
        }
        for flow in &self.flows {
            assert_eq!(flow.rtt_ns.count, flow.totals.received, "{flow:?}");
            flow.rtt_ns.check();
        }
        if self.totals.received > 0 {
            assert!(
                self.rtt_ns.min > 0.0,
                "a round trip takes time: {:?}",
                self.rtt_ns
            );
            let rate = self.totals.received as f64 * 1e9 / self.elapsed_ns as f64;
            let off = (self.rate_per_s - rate).abs() / rate;
            assert!(
                off < 0.01,
                "{} answers in {} ns are not {}/s",
                self.totals.received,
                self.elapsed_ns,
                self.rate_per_s
            );
        }
    }
}

impl Distribution {
    #[track_caller]
    fn check(&self) {
        let figures = [
            self.min, self.mean, self.stdev, self.p50, self.p90, self.p99, self.p99_9, self.max,
        ];
        if self.count == 0 {
            assert!(
                figures.into_iter().all(f64::is_nan),
                "figures of nothing: {self:?}"
            );
            return;
        }
        assert!(
            !figures.into_iter().any(f64::is_nan),
            "figures are missing: {self:?}"
        );
        let ascending = [self.min, self.p50, self.p90, self.p99, self.p99_9, self.max];
        assert!(ascending.is_sorted(), "{self:?}");
        // A histogram rounds to its precision; the mean of rounded values may leave [min, max] by as much.
        assert!(
            self.mean >= self.min * 0.99 && self.mean <= self.max * 1.01,
            "{self:?}"
        );
        assert!(self.stdev >= 0.0 && self.stdev <= self.max, "{self:?}");
    }
}
