//! The page with the figures, and its charts.

use std::path::Path;

use benches::bars::Bars;
use benches::plot::Chart;

use crate::report::{number, Report};

const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- end of figures -->";

/// Whether the page can take the figures: to be asked before they are measured.
pub(crate) fn check(doc: &Path) -> Result<(), String> {
    read(doc).map(drop)
}

/// What stands before the figures, and after them.
fn read(doc: &Path) -> Result<(String, String), String> {
    let page = std::fs::read_to_string(doc).map_err(|e| format!("{}: {e}", doc.display()))?;
    let (before, after) =
        split(&page).ok_or_else(|| format!("{} has no marks for the figures", doc.display()))?;
    Ok((before.to_owned(), after.to_owned()))
}

fn split(page: &str) -> Option<(&str, &str)> {
    let (before, rest) = page.split_once(BEGIN)?;
    Some((before, rest.split_once(END)?.1))
}

/// Puts the figures between the marks of the page, and the charts next to it.
pub(crate) fn write(doc: &Path, report: &Report<'_>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", doc.display());
    let (before, after) = read(doc)?;
    let stem = doc.file_stem().unwrap_or_default().to_string_lossy();
    let mut images = String::new();
    for (name, title, svg) in charts(report) {
        let file = format!("{stem}-{name}.svg");
        std::fs::write(doc.with_file_name(&file), svg).map_err(failed)?;
        images += &format!("![{title}]({file})\n");
    }
    let page = format!("{before}{BEGIN}\n{images}\n{}\n{END}{after}", report.text());
    std::fs::write(doc, page).map_err(failed)
}

/// The costs of each scenario with the least workers, and the rates over workers if there are several numbers of them.
fn charts(report: &Report<'_>) -> Vec<(String, String, String)> {
    let bench = report.bench;
    let steps: Vec<String> = bench.workers.iter().map(usize::to_string).collect();
    let mut charts = Vec::new();
    for (s, scenario) in bench.scenarios.iter().enumerate() {
        let peers = || bench.peers.iter().enumerate();
        let bar = |(p, peer): (usize, &crate::peer::Peer)| {
            let cost = report.medians(0, s, p)?.cost;
            Some((peer.kind.name().to_owned(), cost, number(cost)))
        };
        let bars: Vec<_> = peers().filter_map(bar).collect();
        if bars.is_empty() {
            continue;
        }
        let title = format!("{}: {}", scenario.title, scenario.cost());
        let svg = Bars {
            title: &title,
            bars: &bars,
        }
        .svg();
        charts.push((scenario.name.to_owned(), title, svg));
        if steps.len() < 2 {
            continue;
        }
        let line = |(p, peer): (usize, &crate::peer::Peer)| {
            let rates = (0..steps.len()).map(|w| report.medians(w, s, p)?.per_second);
            let rates: Option<Vec<f64>> = rates.collect();
            Some((peer.kind.name().to_owned(), rates?))
        };
        let lines: Vec<_> = peers().filter_map(line).collect();
        if lines.is_empty() {
            continue;
        }
        let title = format!("{}: {}s / s", scenario.title, scenario.unit);
        let rates = lines.iter().flat_map(|(_, rates)| rates).copied();
        let chart = Chart {
            title: &title,
            x: "workers",
            steps: &steps,
            lines: &lines,
            least: rates.fold(f64::MAX, f64::min).max(1.0),
        };
        let svg = chart.svg();
        charts.push((format!("{}-workers", scenario.name), title, svg));
    }
    charts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_split_at_its_marks() {
        let page = format!("a\n{BEGIN}old\n{END}\nz");
        assert_eq!(split(&page), Some(("a\n", "\nz")));
        assert_eq!(split("a"), None);
        assert_eq!(split(&format!("{END}{BEGIN}")), None);
    }
}
