//! Plots as inline SVG: lines and bars.

use std::fmt::Write;

use crate::latency::LatencySummary;

use super::axis::{Axis, Scale};
use super::escape;

/// Units of the view box; on a phone a unit is a little less than a pixel.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;
/// Lines beyond this many share colours.
const COLOURS: usize = 4;
/// Points of a line that say what they are when pointed at.
const TOUCH_POINTS_MAX: usize = 80;

/// A plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    title: String,
    x: Axis,
    y: Axis,
    body: Body,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    Lines(Vec<Line>),
    Bars(Vec<f64>),
}

/// A line of a plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    label: String,
    points: Vec<(f64, f64)>,
}

impl Line {
    /// Through these points.
    pub fn new(label: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            label: label.into(),
            points,
        }
    }
}

impl Chart {
    /// Lines over seconds.
    pub fn over_time(title: &str, y: Axis, lines: Vec<Line>) -> Self {
        Self::lines(title, Axis::seconds(), y, lines)
    }

    /// Distributions of latency, each with what it is of.
    pub fn percentiles(title: &str, of: &[(&str, Option<&LatencySummary>)]) -> Self {
        let lines = of.iter().filter_map(|(label, latency)| {
            Some(Line::new(*label, latency.as_ref()?.curve.clone()))
        });
        Self::lines(title, Axis::percentile(), Axis::latency(), lines.collect())
    }

    /// One bar per value, numbered from 0.
    pub fn bars(title: &str, y: Axis, values: &[f64]) -> Self {
        Self {
            title: title.to_owned(),
            x: Axis::count("shard"),
            y,
            body: Body::Bars(values.to_vec()),
        }
    }

    fn lines(title: &str, x: Axis, y: Axis, mut lines: Vec<Line>) -> Self {
        lines.retain(|line| !line.points.is_empty());
        Self {
            title: title.to_owned(),
            x,
            y,
            body: Body::Lines(lines),
        }
    }

    /// True if there is nothing to show.
    pub fn is_empty(&self) -> bool {
        match &self.body {
            Body::Lines(lines) => lines.is_empty(),
            Body::Bars(bars) => bars.is_empty(),
        }
    }

    /// Appends the plot with its caption.
    pub fn render(&self, out: &mut String) {
        let title = escape(&self.title);
        // Writing to a String cannot fail, here and below.
        let _ = write!(out, "<figure><figcaption><b>{title}</b>");
        self.keys(out);
        let _ = writeln!(
            out,
            "</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
        );
        match &self.body {
            Body::Lines(lines) => self.render_lines(out, lines),
            Body::Bars(bars) => self.render_bars(out, bars),
        }
        out.push_str("</svg></figure>\n");
    }

    /// What each colour is, where there is more than one.
    fn keys(&self, out: &mut String) {
        let Body::Lines(lines) = &self.body else {
            return;
        };
        for (number, line) in lines.iter().enumerate().filter(|_| lines.len() > 1) {
            let (label, colour) = (escape(&line.label), number % COLOURS);
            let _ = write!(
                out,
                "<span class=\"key\"><i style=\"background:var(--c{colour})\"></i>{label}</span>"
            );
        }
    }

    fn render_lines(&self, out: &mut String, lines: &[Line]) {
        let points = || lines.iter().flat_map(|line| line.points.iter());
        let x = self.x.scale(points().map(|point| point.0));
        let y = self.y.scale(points().map(|point| point.1));
        self.render_y(out, &y);
        for mark in x.marks() {
            let at = across(&x, mark);
            let text = escape(&self.x_mark(mark));
            text_at(out, at, HEIGHT - BOTTOM + 16.0, "middle", &text);
        }
        self.render_x_label(out);
        for (number, line) in lines.iter().enumerate() {
            self.render_line(out, line, number % COLOURS, (&x, &y));
        }
    }

    /// Seconds are named once, below the axis.
    fn x_mark(&self, mark: f64) -> String {
        let written = self.x.write(mark);
        match written.strip_suffix(" s") {
            Some(number) => number.to_owned(),
            None => written,
        }
    }

    fn render_line(&self, out: &mut String, line: &Line, colour: usize, (x, y): (&Scale, &Scale)) {
        let place = |point: &(f64, f64)| (across(x, point.0), up(y, point.1));
        let mut path = String::new();
        for point in &line.points {
            let (at, above) = place(point);
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{at:.1} {above:.1}");
        }
        let _ = writeln!(
            out,
            "<path class=\"curve\" style=\"stroke:var(--c{colour})\" d=\"{path}\"/>"
        );
        if let Some((at, above)) = line.points.last().map(place) {
            let _ = writeln!(
                out,
                "<circle cx=\"{at:.1}\" cy=\"{above:.1}\" r=\"3\" style=\"fill:var(--c{colour})\"/>"
            );
        }
        let step = line.points.len().div_ceil(TOUCH_POINTS_MAX).max(1);
        for point in line.points.iter().step_by(step) {
            let (at, above) = place(point);
            let (label, x, y) = (&line.label, self.x.write(point.0), self.y.write(point.1));
            let said = escape(&format!("{label}: {y} at {x}"));
            let _ = writeln!(
                out,
                "<circle class=\"touch\" style=\"color:var(--c{colour})\" cx=\"{at:.1}\" cy=\"{above:.1}\" \
                 r=\"4\"><title>{said}</title></circle>"
            );
        }
    }

    fn render_bars(&self, out: &mut String, bars: &[f64]) {
        let y = self.y.scale(bars.iter().copied());
        self.render_y(out, &y);
        let place = (WIDTH - LEFT - RIGHT) / bars.len() as f64;
        let width = (place * 0.75).min(48.0);
        let labelled = bars.len().div_ceil(16);
        for (number, value) in bars.iter().enumerate() {
            let middle = LEFT + place * (number as f64 + 0.5);
            let (left, top) = (middle - width / 2.0, up(&y, *value));
            let height = HEIGHT - BOTTOM - top;
            let said = escape(&format!(
                "{} {number}: {}",
                self.x.label,
                self.y.write(*value)
            ));
            let _ = writeln!(
                out,
                "<rect class=\"bar\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
                 height=\"{height:.1}\" rx=\"2\"><title>{said}</title></rect>"
            );
            if number % labelled == 0 {
                let text = number.to_string();
                text_at(out, middle, HEIGHT - BOTTOM + 16.0, "middle", &text);
            }
        }
        self.render_x_label(out);
    }

    fn render_y(&self, out: &mut String, y: &Scale) {
        for mark in y.marks() {
            let at = up(y, mark);
            let right = WIDTH - RIGHT;
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>"
            );
            let text = escape(&self.y.write(mark));
            text_at(out, LEFT - 6.0, at + 4.0, "end", &text);
        }
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>"
        );
    }

    fn render_x_label(&self, out: &mut String) {
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        text_at(out, middle, HEIGHT - 6.0, "middle", &escape(self.x.label));
    }
}

fn across(x: &Scale, value: f64) -> f64 {
    LEFT + x.position(value) * (WIDTH - LEFT - RIGHT)
}

fn up(y: &Scale, value: f64) -> f64 {
    HEIGHT - BOTTOM - y.position(value) * (HEIGHT - TOP - BOTTOM)
}

fn text_at(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(chart: &Chart) -> String {
        let mut out = String::new();
        chart.render(&mut out);
        out
    }

    #[test]
    fn everything_stays_inside_the_plot() {
        let points: Vec<_> = (0..500)
            .map(|n| (f64::from(n), f64::from(n % 7) * 1e6))
            .collect();
        let chart = Chart::over_time("t", Axis::count("n"), vec![Line::new("l", points)]);
        let svg = render(&chart);
        for part in svg.split("cx=\"").skip(1) {
            let at: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!((LEFT..=WIDTH - RIGHT).contains(&at), "{at}");
        }
        assert!(svg.matches("<title>").count() <= TOUCH_POINTS_MAX);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn one_point_and_all_zeros_can_be_shown() {
        for points in [vec![(0.0, 0.0)], vec![(0.0, 0.0), (1.0, 0.0)]] {
            for y in [Axis::count("n"), Axis::bytes("b"), Axis::latency()] {
                let chart = Chart::over_time("t", y, vec![Line::new("l", points.clone())]);
                assert!(!render(&chart).contains("NaN"));
            }
        }
        let curve = Chart::lines(
            "t",
            Axis::percentile(),
            Axis::latency(),
            vec![Line::new("l", vec![(50.0, 3.0), (100.0, 3.0)])],
        );
        assert!(!render(&curve).contains("NaN"));
    }

    #[test]
    fn many_bars_get_few_labels() {
        let svg = render(&Chart::bars("t", Axis::count("n"), &[1.0; 54]));
        assert_eq!(svg.matches("<rect").count(), 54);
        assert!(svg.matches("<text").count() < 30);
    }

    #[test]
    fn lines_without_points_are_not_there() {
        assert!(Chart::over_time("t", Axis::count("n"), vec![Line::new("l", vec![])]).is_empty());
        assert!(Chart::percentiles("t", &[("x", None)]).is_empty());
    }
}
