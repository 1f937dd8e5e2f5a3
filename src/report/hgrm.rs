//! The percentile table that HdrHistogram's plotters read.

use std::io::{self, Write};

use crate::record::Latency;

/// Rows for each halving of the distance to 100 %, as HdrHistogram's own writers have it.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Values are written in microseconds, so with three decimals nothing is lost.
const NANOS_PER_UNIT: f64 = 1e3;

/// Writes `latency` in HdrHistogram's percentile format, values in microseconds.
///
/// The form is that of `outputPercentileDistribution` in the Java implementation's `AbstractHistogram.java`.
///
/// # Errors
/// When `out` can't be written to.
pub fn hgrm(latency: &Latency, out: &mut impl Write) -> io::Result<()> {
    let histogram = latency.histogram();
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0_u64;
    if !latency.is_empty() {
        for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
            total = total.saturating_add(step.count_since_last_iteration());
            let value = histogram.highest_equivalent(step.value_iterated_to()) as f64;
            let quantile = step.quantile_iterated_to();
            write!(
                out,
                "{:12.3} {quantile:2.12} {total:10}",
                value / NANOS_PER_UNIT
            )?;
            if quantile < 1.0 {
                write!(out, " {:14.2}", 1.0 / (1.0 - quantile))?;
            }
            writeln!(out)?;
        }
    }
    let moments = latency.moments();
    let micros = |nanos: Option<f64>| nanos.unwrap_or(0.0) / NANOS_PER_UNIT;
    writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        micros(moments.mean()),
        micros(moments.stdev())
    )?;
    writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        micros(moments.max().map(|max| max as f64)),
        latency.count()
    )?;
    writeln!(
        out,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.buckets(),
        2048
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(values: impl IntoIterator<Item = u64>) -> Vec<String> {
        let mut latency = Latency::new();
        values.into_iter().for_each(|value| latency.record(value));
        let mut out = Vec::new();
        hgrm(&latency, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_table_rises_to_one_hundred_percent() {
        let lines = lines((1..=10_000).map(|i| i * 1_000));
        assert!(lines[0].trim_start().starts_with("Value"));
        let rows: Vec<Vec<f64>> = lines[2..]
            .iter()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|word| word.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(
            rows.windows(2)
                .all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2])
        );
        let median = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((median[0] - 5_000.0).abs() < 5.0, "{median:?}");
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2], last.len()), (1.0, 10_000.0, 3));
        assert!(
            lines
                .iter()
                .any(|line| line.contains("Total count    =        10000"))
        );
    }

    #[test]
    fn a_histogram_without_values_has_only_a_head_and_a_foot() {
        assert_eq!(lines([]).len(), 5);
    }
}
