//! The report as a table: a row per flow.

use std::io::{self, Write};

use super::{FlowReport, Report};

/// The columns. Fields that end in `_ns` are nanoseconds; one that is not known is empty.
const COLUMNS: [&str; 22] = [
    "src",
    "dst",
    "address",
    "sent",
    "received",
    "lost",
    "unresolved",
    "duplicate",
    "late",
    "reordered",
    "corrupt",
    "errored",
    "loss",
    "rtt_count",
    "rtt_min_ns",
    "rtt_mean_ns",
    "rtt_stdev_ns",
    "rtt_p50_ns",
    "rtt_p90_ns",
    "rtt_p99_ns",
    "rtt_p99_9_ns",
    "rtt_max_ns",
];

/// Writes the flows of `report` as comma-separated values (RFC 4180) with a line of column names first.
///
/// # Errors
/// When `out` can't be written to.
pub fn csv(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record(COLUMNS)?;
    for flow in &report.flows {
        table.write_record(row(flow))?;
    }
    table.flush()
}

fn row(flow: &FlowReport) -> [String; COLUMNS.len()] {
    let totals = &flow.totals;
    let rtt = &flow.rtt_ns;
    let known = |nanos: Option<u64>| nanos.map(|nanos| nanos.to_string()).unwrap_or_default();
    [
        flow.src.clone(),
        flow.dst.clone(),
        flow.address.clone().unwrap_or_default(),
        totals.sent.to_string(),
        totals.received.to_string(),
        totals.lost.to_string(),
        totals.unresolved.to_string(),
        totals.duplicate.to_string(),
        totals.late.to_string(),
        totals.reordered.to_string(),
        totals.corrupt.to_string(),
        totals.errored.to_string(),
        totals.loss().to_string(),
        rtt.count.to_string(),
        known(rtt.min),
        known(rtt.mean),
        known(rtt.stdev),
        known(rtt.p50),
        known(rtt.p90),
        known(rtt.p99),
        known(rtt.p99_9),
        known(rtt.max),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn each_flow_has_a_row_and_each_column_a_value_of_its_own() {
        let mut report = samples::report();
        report.flows[0].src = "quoted \", and with comma".to_owned();
        let mut out = Vec::new();
        csv(&report, &mut out).unwrap();
        let mut reader = csv::Reader::from_reader(out.as_slice());
        assert_eq!(reader.headers().unwrap(), &COLUMNS[..]);
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), report.flows.len());
        for (row, flow) in rows.iter().zip(&report.flows) {
            let get = |column: &str| {
                let index = COLUMNS.iter().position(|name| *name == column).unwrap();
                row[index].to_owned()
            };
            assert_eq!(get("src"), flow.src);
            assert_eq!(get("lost"), flow.totals.lost.to_string());
            assert_eq!(get("rtt_max_ns"), flow.rtt_ns.max.unwrap().to_string());
            assert_eq!(get("rtt_p50_ns"), flow.rtt_ns.p50.unwrap().to_string());
        }
    }
}
