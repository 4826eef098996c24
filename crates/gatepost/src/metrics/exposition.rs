//! The text format of Prometheus, version 0.0.4: one block a family, with its help and type.
//!
//! By hand, because it is little, and because the libraries for it write OpenMetrics, in which `promtool check metrics` finds
//! every counter twice. <https://prometheus.io/docs/instrumenting/exposition_formats/>

use super::counts::Histogram;
use std::fmt::{Display, Write};

/// What a scrape is answered with.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The kinds of families that there are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the next start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How long things took.
    Histogram,
}

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Begins a family. `help` is one line.
    pub fn family<'p>(&'p mut self, name: &'static str, kind: Kind, help: &str) -> Family<'p> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {word}\n");
        Family { page: &mut self.0, name }
    }

    /// A family with one series.
    pub fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A family that is being written.
pub struct Family<'p> {
    page: &'p mut String,
    name: &'static str,
}

impl Family<'_> {
    /// One series.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.series("", labels, None, value);
    }

    /// One series of a histogram: its buckets, sum and count.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        for (bound, upto) in histogram.cumulative() {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), seconds);
            self.series("_bucket", labels, Some(&bound), upto);
            count = upto;
        }
        self.series("_sum", labels, None, seconds(histogram.sum()));
        self.series("_count", labels, None, count);
    }

    fn series(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: impl Display) {
        let _ = write!(self.page, "{}{suffix}", self.name);
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut open = false;
        for (name, text) in labels {
            let _ = write!(self.page, "{}{name}=\"", if open { "," } else { "{" });
            open = true;
            for c in text.chars() {
                match c {
                    '\\' => self.page.push_str("\\\\"),
                    '"' => self.page.push_str("\\\""),
                    '\n' => self.page.push_str("\\n"),
                    c => self.page.push(c),
                }
            }
            self.page.push('"');
        }
        let _ = writeln!(self.page, "{} {value}", if open { "}" } else { "" });
    }
}

/// Microseconds as seconds, without a rounding error.
pub fn seconds(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    match rest {
        0 => whole.to_string(),
        rest => format!("{whole}.{rest:06}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_format() {
        let mut page = Page::default();
        page.one("a_total", Kind::Counter, "How many.", 7);
        page.family("b", Kind::Gauge, "What.").sample(&[("file", "a\"b\\c\nd"), ("x", "ü")], 0.5);
        let histogram = Histogram::new(&[2_500, 1_000_000]);
        histogram.record(Duration::from_micros(2_500));
        histogram.record(Duration::from_secs(2));
        page.family("c_seconds", Kind::Histogram, "Time.").histogram(&[("p", "imap")], &histogram);
        assert_eq!(
            page.into_text(),
            "# HELP a_total How many.\n# TYPE a_total counter\na_total 7\n\
             # HELP b What.\n# TYPE b gauge\nb{file=\"a\\\"b\\\\c\\nd\",x=\"ü\"} 0.5\n\
             # HELP c_seconds Time.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{p=\"imap\",le=\"0.0025\"} 1\nc_seconds_bucket{p=\"imap\",le=\"1\"} 1\n\
             c_seconds_bucket{p=\"imap\",le=\"+Inf\"} 2\nc_seconds_sum{p=\"imap\"} 2.0025\nc_seconds_count{p=\"imap\"} 2\n"
        );
    }
}
