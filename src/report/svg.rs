//! Pictures of latencies, drawn by `plotters` as SVG to be put into a page.
//!
//! Their colours are those of [`COLORS`]; a page gives them others by rules such as `[stroke="#1F6FB2"]`, as for a
//! dark background.

use std::io;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

use super::axis::Axis;
use super::bins::{Classes, nice_step};
use super::units::{count, percent};
use crate::record::Latency;

/// The colours of lines and areas, in the order in which they are given to them. These and those for a dark background
/// are chosen so that people with any kind of colour blindness tell each from each: more would be too much alike.
pub const COLORS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x6f, 0xb2),
    RGBColor(0xc2, 0x54, 0x1b),
    RGBColor(0x17, 0x4f, 0x04),
    RGBColor(0x47, 0x25, 0x50),
    RGBColor(0x23, 0x9f, 0xa4),
    RGBColor(0x8f, 0x55, 0x5e),
];

/// The colour of axes and what is written on them.
pub const INK: RGBColor = RGBColor(0x55, 0x5b, 0x66);

/// The colour of the lines behind.
pub const GRID: RGBColor = RGBColor(0xd9, 0xdc, 0xe1);

/// For which width of a page a picture is drawn: what is written in it stays readable there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// A desktop's.
    Wide,
    /// A phone's.
    Narrow,
}

impl Size {
    const fn pixels(self) -> (u32, u32) {
        match self {
            Size::Wide => (860, 340),
            Size::Narrow => (360, 280),
        }
    }

    /// How many marks fit on the axis of x.
    const fn marks(self) -> usize {
        match self {
            Size::Wide => 10,
            Size::Narrow => 4,
        }
    }
}

/// A line over time: pairs of seconds and nanoseconds.
pub type Line = Vec<(f64, f64)>;

/// The latency that each share of the pings does not exceed, the shares spread out towards 100 %.
///
/// # Errors
/// None that the latencies could cause.
pub fn percentiles(latencies: &[&Latency], size: Size) -> io::Result<String> {
    /// Points for each nine of the percentile.
    const POINTS: f64 = 40.0;
    let most = latencies.iter().map(|latency| latency.count()).max();
    let nines = (most.unwrap_or(1) as f64).log10().clamp(1.0, 7.0);
    let lines: Vec<Line> = latencies
        .iter()
        .map(|latency| {
            let own = (latency.count().max(1) as f64).log10().min(nines);
            let steps = (own * POINTS).floor() as u32;
            let xs = (0..=steps)
                .map(|step| f64::from(step) / POINTS)
                .chain([own]);
            let xs: Vec<f64> = xs.collect();
            let shares: Vec<f64> = xs.iter().map(|x| 1.0 - 10_f64.powf(-x)).collect();
            let values = latency.quantiles(&shares);
            let values = values.into_iter().map(|nanos| nanos as f64);
            xs.into_iter().zip(values).collect()
        })
        .collect();
    let mut ticks: Vec<f64> = (0..=nines as u32).map(f64::from).collect();
    if size == Size::Wide {
        ticks.push(2_f64.log10());
    }
    let label = |x: &f64| match *x {
        0.0 => "0 %".to_owned(),
        x if x < 1.0 => "50 %".to_owned(),
        x => {
            let decimals = (x.round() as usize).saturating_sub(2);
            format!("{:.decimals$} %", 100.0 * (1.0 - 10_f64.powf(-x)))
        }
    };
    draw(size, |area| {
        lines_on(area, 0.0..nines, ticks, &label, &lines)
    })
}

/// One line for each of `lines`, over seconds.
///
/// # Errors
/// None that the lines could cause.
pub fn over_time(lines: &[Line], size: Size) -> io::Result<String> {
    let last = lines.iter().flatten().map(|(x, _)| *x).fold(1.0, f64::max);
    let step = nice_step(last / size.marks() as f64);
    let ticks = (0..=(last / step) as u32).map(|mark| f64::from(mark) * step);
    let decimals = usize::from(step < 1.0);
    let label = |x: &f64| format!("{x:.decimals$} s");
    draw(size, |area| {
        lines_on(area, 0.0..last, ticks.collect(), &label, lines)
    })
}

/// A line of nanoseconds over loads, which `show` writes.
///
/// # Errors
/// None that the line could cause.
pub fn over_load(line: &Line, size: Size, show: &dyn Fn(f64) -> String) -> io::Result<String> {
    let (x, ticks) = loads(line, size);
    draw(size, |area| {
        lines_on(
            area,
            x,
            ticks,
            &|load: &f64| show(*load),
            std::slice::from_ref(line),
        )
    })
}

/// A line of shares of 1 over loads, which `show` writes.
///
/// # Errors
/// None that the line could cause.
pub fn share_over_load(
    line: &Line,
    size: Size,
    show: &dyn Fn(f64) -> String,
) -> io::Result<String> {
    let (x, ticks) = loads(line, size);
    let greatest = line.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    let step = nice_step((greatest / 5.0).max(1e-4));
    let steps = (greatest / step).ceil().max(1.0);
    let levels = (0..=steps as u32).map(|level| f64::from(level) * step);
    let loads: Marks<'_> = (marked(x, ticks), &|load| show(*load));
    let shares: Marks<'_> = (marked(0.0..steps * step, levels.collect()), &|share| {
        percent(*share)
    });
    draw(size, |area| {
        lines_between(area, loads, shares, std::slice::from_ref(line))
    })
}

/// The range of an axis of loads, and its marks.
fn loads(line: &Line, size: Size) -> (std::ops::Range<f64>, Vec<f64>) {
    let last = line.iter().map(|(load, _)| *load).fold(1.0, f64::max);
    let step = nice_step(last / (size.marks() as f64 / 2.0));
    let steps = (last / step).ceil();
    let ticks = (0..=steps as u32).map(|mark| f64::from(mark) * step);
    (0.0..steps * step, ticks.collect())
}

/// How many pings took how long. Nothing is drawn of no pings.
///
/// # Errors
/// None that the latency could cause.
pub fn histogram(latency: &Latency, size: Size) -> io::Result<String> {
    const ROWS: usize = 40;
    let classes = Classes::new(latency, ROWS);
    let bars = classes.classes.len() as f64;
    let highest = classes.classes.iter().map(|class| class.count).max();
    let highest = highest.unwrap_or(1) as f64;
    let every = (classes.classes.len() / size.marks()).max(1);
    let edges = (0..=classes.classes.len()).step_by(every);
    let step = nice_step(highest / 5.0).max(1.0);
    let levels = (0..=(highest / step).ceil() as u32).map(|level| f64::from(level) * step);
    draw(size, |area| {
        let mut chart = frame(area)
            .build_cartesian_2d(
                marked(0.0..bars.max(1.0), edges.map(|edge| edge as f64).collect()),
                marked(0.0..(highest / step).ceil() * step, levels.collect()),
            )
            .map_err(refused)?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .disable_x_mesh()
            .label_style(("sans-serif", 15, &INK))
            .x_label_formatter(&|x| classes.edge_label(*x as usize))
            .y_label_formatter(&|y| count(*y as u64))
            .draw()
            .map_err(refused)?;
        let bars = classes.classes.iter().enumerate().map(|(index, class)| {
            let (left, top) = (index as f64 + 0.06, class.count as f64);
            let corners = [(left, 0.0), (left + 0.88, top)];
            Rectangle::new(corners, COLORS[0].filled())
        });
        chart.draw_series(bars).map_err(refused)?;
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Lets `onto` draw a picture, and returns it as SVG.
fn draw(size: Size, onto: impl FnOnce(&Area<'_>) -> io::Result<()>) -> io::Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size.pixels()).into_drawing_area();
    onto(&area)?;
    area.present().map_err(refused)?;
    drop(area);
    Ok(svg)
}

/// Draws lines of nanoseconds; `x`, `ticks` and `label` describe the other axis.
fn lines_on(
    area: &Area<'_>,
    x: std::ops::Range<f64>,
    ticks: Vec<f64>,
    label: &dyn Fn(&f64) -> String,
    lines: &[Line],
) -> io::Result<()> {
    let values = || lines.iter().flatten().map(|(_, nanos)| *nanos);
    let least = values().fold(f64::INFINITY, f64::min);
    let axis = Axis::new(least.min(1e18), values().fold(0.0, f64::max), 8);
    let placed = |line: &Line| line.iter().map(|(x, y)| (*x, axis.position(*y))).collect();
    let placed: Vec<Line> = lines.iter().map(placed).collect();
    let nanos = marked(axis.range(), axis.ticks());
    let label_of_nanos = |y: &f64| axis.label(*y);
    lines_between(
        area,
        (marked(x, ticks), label),
        (nanos, &label_of_nanos),
        &placed,
    )
}

/// An axis and the words at its marks.
type Marks<'a> = (Marked, &'a dyn Fn(&f64) -> String);

/// Draws lines between two axes.
fn lines_between(
    area: &Area<'_>,
    (x, label_of_x): Marks<'_>,
    (y, label_of_y): Marks<'_>,
    lines: &[Line],
) -> io::Result<()> {
    let mut chart = frame(area).build_cartesian_2d(x, y).map_err(refused)?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 15, &INK))
        .x_label_formatter(&label_of_x)
        .y_label_formatter(&label_of_y)
        .draw()
        .map_err(refused)?;
    for (line, color) in lines.iter().zip(COLORS) {
        let series = LineSeries::new(line.iter().copied(), color.stroke_width(2));
        chart.draw_series(series).map_err(refused)?;
    }
    Ok(())
}

fn frame<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(area);
    chart
        .margin_top(10)
        .margin_right(28)
        .x_label_area_size(30)
        .y_label_area_size(Y_LABELS);
    chart
}

/// Pixels for the labels of the y axis: as wide as `99,999,999`.
const Y_LABELS: u32 = 88;

/// A range with marks at given places, where plotters would choose its own.
struct Marked {
    range: std::ops::Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Marked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        (f64::from(from) + share * f64::from(to - from)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.clone()
    }
}

const fn marked(range: std::ops::Range<f64>, ticks: Vec<f64>) -> Marked {
    Marked { range, ticks }
}

fn refused<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Metric;
    use crate::report::fixtures;

    #[test]
    fn pictures_are_drawn_of_a_run_and_of_nothing() {
        let run = fixtures::report();
        let none = Latency::new();
        for size in [Size::Wide, Size::Narrow] {
            for (lines, svg) in [
                (
                    2,
                    percentiles(
                        &[
                            &run.histograms[Metric::Rtt],
                            &run.histograms[Metric::Response],
                        ],
                        size,
                    ),
                ),
                (1, percentiles(&[&none], size)),
                (1, over_time(&[vec![(0.5, 9e3), (1.5, 8e3)]], size)),
                (0, over_time(&[], size)),
                (0, histogram(&run.histograms[Metric::Rtt], size)),
                (0, histogram(&none, size)),
            ] {
                let svg = svg.unwrap();
                assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
                assert!(svg.matches("<polyline").count() >= lines, "{svg}");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }
}
