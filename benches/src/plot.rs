//! Charts as SVG, for light and for dark pages.

use std::fmt::Write;

/// A chart of lines over steps that stand at equal distances, on a logarithmic scale.
pub struct Chart<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What the steps are.
    pub x: &'a str,
    /// The steps.
    pub steps: &'a [String],
    /// Names of lines, and a value for each step.
    pub lines: &'a [(String, Vec<f64>)],
    /// Smaller values are drawn as this one.
    pub least: f64,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 48.0;
const COLOURS: [&str; 8] = [
    "#888888", "#b07d2b", "#2f7ed8", "#2ca25f", "#d95f5f", "#8e5fd9", "#1aa3a3", "#c0509a",
];

impl Chart<'_> {
    /// The chart as a document.
    pub fn svg(&self) -> String {
        let values = self.lines.iter().flat_map(|(_, values)| values).copied();
        let most = values.fold(self.least * 10.0, f64::max);
        let (low, high) = (self.least.log10().floor(), most.log10().ceil());
        let x = |step: usize| {
            let gaps = self.steps.len().saturating_sub(1).max(1);
            LEFT + (WIDTH - LEFT - RIGHT) * step as f64 / gaps as f64
        };
        let y = |value: f64| {
            let part = (value.max(self.least).log10() - low) / (high - low);
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<style>text{{fill:#222}}.g{{stroke:#ccc}}\
             @media(prefers-color-scheme:dark){{text{{fill:#ddd}}.g{{stroke:#444}}}}</style>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            escape(self.title)
        );
        // Writing to a string cannot fail.
        let mut put = |line: String| {
            let _ = writeln!(svg, "{line}");
        };
        let mut power = low;
        while power <= high {
            let (value, at) = (10f64.powf(power), y(10f64.powf(power)));
            let (end, text) = (WIDTH - RIGHT, LEFT - 8.0);
            put(format!(
                "<line class=\"g\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
            ));
            put(format!(
                "<text x=\"{text}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                at + 4.0
            ));
            power += 1.0;
        }
        for (n, step) in self.steps.iter().enumerate() {
            let at = HEIGHT - BOTTOM + 18.0;
            put(format!(
                "<text x=\"{:.1}\" y=\"{at}\" text-anchor=\"middle\">{}</text>",
                x(n),
                escape(step)
            ));
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        put(format!(
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 10.0,
            escape(self.x)
        ));
        for (n, (name, values)) in self.lines.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let points = values.iter().enumerate();
            let points: Vec<String> = points
                .map(|(i, v)| format!("{:.1},{:.1}", x(i), y(*v)))
                .collect();
            put(format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                points.join(" ")
            ));
            let (left, top) = (WIDTH - RIGHT + 20.0, TOP + 18.0 * n as f64);
            put(format!(
                "<rect x=\"{left}\" y=\"{top}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>"
            ));
            put(format!(
                "<text x=\"{}\" y=\"{}\">{}</text>",
                left + 18.0,
                top + 7.0,
                escape(name)
            ));
        }
        svg + "</svg>\n"
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_lines_and_its_steps() {
        let lines = [("a<b".to_owned(), vec![1.0, 100.0])];
        let steps = ["1".to_owned(), "2".to_owned()];
        let chart = Chart {
            title: "t",
            x: "x",
            steps: &steps,
            lines: &lines,
            least: 1.0,
        };
        let svg = chart.svg();
        // From the lower left to the upper right corner of the plot.
        assert!(
            svg.contains("<polyline points=\"64.0,312.0 570.0,40.0\""),
            "{svg}"
        );
        assert!(svg.contains("a&lt;b") && svg.contains(">100<"), "{svg}");
    }
}
