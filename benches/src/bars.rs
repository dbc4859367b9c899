//! Bars as SVG, for light and for dark pages.

use std::fmt::Write;

use crate::plot::escape;

/// Horizontal bars from zero, the shortest of which is the best.
pub struct Bars<'a> {
    /// What they show, with its unit.
    pub title: &'a str,
    /// For each bar its name, its length, and what is written at its end.
    pub bars: &'a [(String, f64, String)],
}

const WIDTH: f64 = 720.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 36.0;
const STEP: f64 = 24.0;
/// Seen on white as on black.
const COLOUR: &str = "#2f7ed8";

impl Bars<'_> {
    /// The bars as a document.
    pub fn svg(&self) -> String {
        let height = TOP + STEP * self.bars.len() as f64 + 8.0;
        let most = self.bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<style>text{{fill:#222}}\
             @media(prefers-color-scheme:dark){{text{{fill:#ddd}}}}</style>\n\
             <text x=\"8\" y=\"20\" font-size=\"14\">{}</text>\n",
            escape(self.title)
        );
        for (n, (name, value, label)) in self.bars.iter().enumerate() {
            let top = TOP + STEP * n as f64;
            let part = if most > 0.0 { value / most } else { 0.0 };
            let length = (WIDTH - LEFT - RIGHT) * part.clamp(0.0, 1.0);
            let (name_end, label_begin, base) = (LEFT - 8.0, LEFT + length + 8.0, top + 13.0);
            // Writing to a string cannot fail.
            let _ = writeln!(
                svg,
                "<text x=\"{name_end}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"16\" fill=\"{COLOUR}\"/>\
                 <text x=\"{label_begin:.1}\" y=\"{base}\">{}</text>",
                escape(name),
                escape(label)
            );
        }
        svg + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bars = [
            ("a<b".to_owned(), 5.0, "5 µs".to_owned()),
            ("c".to_owned(), 10.0, "10 µs".to_owned()),
        ];
        let svg = Bars {
            title: "t & u",
            bars: &bars,
        }
        .svg();
        assert!(svg.contains("width=\"210.0\" height=\"16\""), "{svg}");
        assert!(svg.contains("width=\"420.0\" height=\"16\""), "{svg}");
        assert!(svg.contains("a&lt;b") && svg.contains("t &amp; u") && svg.contains("10 µs"));
        assert!(svg.contains("viewBox=\"0 0 720 92\""), "{svg}");
    }

    #[test]
    fn nothing_is_no_division_by_zero() {
        let bars = [("a".to_owned(), 0.0, String::new())];
        let svg = Bars {
            title: "t",
            bars: &bars,
        }
        .svg();
        assert!(svg.contains("width=\"0.0\""), "{svg}");
    }
}
