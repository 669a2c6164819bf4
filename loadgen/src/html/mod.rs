//! A report as one HTML page: plots as inline SVG, no script, nothing loaded from elsewhere.

mod axis;
mod chart;

pub use axis::Axis;
pub use chart::{Chart, Line};

use std::fmt::Write;

use crate::report::Lines;

/// Colours, light and dark, and how things are placed.
const STYLE: &str = include_str!("style.css");

/// What a page shows.
#[derive(Debug)]
pub struct Page<'a> {
    /// What was run.
    pub title: &'a str,
    /// The verdict; `None` if there is none to give.
    pub ok: Option<bool>,
    /// Ended early.
    pub interrupted: bool,
    /// The plots; those without a point are left out.
    pub charts: &'a [Chart],
    /// Headed lists of figures.
    pub tables: &'a [(&'a str, &'a Lines)],
}

impl Page<'_> {
    /// The whole page.
    pub fn render(&self) -> String {
        let title = escape(self.title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header><h1>{title}</h1>{}</header>\n<main>\n<div class=\"charts\">\n",
            self.verdict()
        );
        for chart in self.charts.iter().filter(|chart| !chart.is_empty()) {
            chart.render(&mut out);
        }
        out.push_str("</div>\n");
        for (heading, lines) in self.tables {
            table(&mut out, heading, lines);
        }
        out.push_str("</main>\n</body>\n</html>\n");
        out
    }

    fn verdict(&self) -> String {
        let early = if self.interrupted {
            ", ended early"
        } else {
            ""
        };
        match self.ok {
            Some(true) => format!("<p class=\"verdict ok\">✓ ok{early}</p>"),
            Some(false) => format!("<p class=\"verdict failed\">✗ FAILED{early}</p>"),
            None => String::new(),
        }
    }
}

fn table(out: &mut String, heading: &str, lines: &Lines) {
    let heading = escape(heading);
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "<section><h2>{heading}</h2>\n<dl>");
    for (label, value) in lines.pairs() {
        let (label, value) = (escape(label), escape(value));
        let _ = writeln!(out, "<div><dt>{label}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl></section>\n");
}

/// Text as it may stand in HTML, between tags and in quotes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_alone_and_shows_no_markup_of_others() {
        let mut lines = Lines::default();
        lines.line("failure", "<script>\"x\"&</script>");
        let charts = [
            Chart::over_time(
                "Open",
                Axis::count("open"),
                vec![Line::new("a<b", vec![(0.0, 1.0)])],
            ),
            Chart::bars("Empty", Axis::count("n"), &[]),
        ];
        let page = Page {
            title: "idle ws://h/{channel}",
            ok: Some(false),
            interrupted: true,
            charts: &charts,
            tables: &[("Figures", &lines)],
        };
        let html = page.render();
        assert!(!html.contains("<script") && !html.contains("a<b") && !html.contains("src="));
        assert!(html.contains("&lt;script&gt;&quot;x&quot;&amp;"));
        assert!(html.contains("FAILED, ended early"));
        assert_eq!(html.matches("<svg").count(), 1);
    }
}
