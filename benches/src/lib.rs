//! What the benchmarks share: figures from many readings, and tables.

pub mod bars;
pub mod model;
pub mod plot;

use std::time::{Duration, Instant};

/// The value below which the share `p` (0 to 1) of the readings lies; zero without readings.
pub fn percentile(readings: &mut [u64], p: f64) -> u64 {
    readings.sort_unstable();
    let last = readings.len().saturating_sub(1);
    let at = (last as f64 * p.clamp(0.0, 1.0)).round() as usize;
    readings.get(at).copied().unwrap_or(0)
}

/// Nanoseconds that one call of `f` takes: the median of `rounds`, each as many calls as last about
/// `round`.
pub fn nanos_per_call(rounds: usize, round: Duration, mut f: impl FnMut()) -> f64 {
    let calls = calls_within(round, &mut f);
    let mut readings: Vec<u64> = (0..rounds)
        .map(|_| {
            let begin = Instant::now();
            (0..calls).for_each(|_| f());
            // Picoseconds, so that the median of whole numbers is good enough.
            (begin.elapsed().as_nanos() * 1000 / u128::from(calls)) as u64
        })
        .collect();
    percentile(&mut readings, 0.5) as f64 / 1000.0
}

fn calls_within(round: Duration, f: &mut impl FnMut()) -> u64 {
    let mut calls: u64 = 1;
    loop {
        let begin = Instant::now();
        (0..calls).for_each(|_| f());
        let took = begin.elapsed();
        if took * 4 >= round {
            let more = round.as_nanos() / took.as_nanos().max(1);
            return calls.saturating_mul(more.max(1) as u64);
        }
        calls *= 2;
    }
}

/// Rows of text in columns of equal width, the first one flush left.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(header[column].chars().count())
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).enumerate();
        let padded = cells.map(|(n, (cell, width))| match n {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(header.to_vec());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut readings = vec![5, 1, 4, 2, 3];
        assert_eq!(percentile(&mut readings, 0.0), 1);
        assert_eq!(percentile(&mut readings, 0.5), 3);
        assert_eq!(percentile(&mut readings, 1.0), 5);
        assert_eq!(percentile(&mut [], 0.5), 0);
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [
            vec!["a".into(), "1000".into()],
            vec!["bcd".into(), "1".into()],
        ];
        assert_eq!(
            table(&["way", "n"], &rows),
            "way     n\na    1000\nbcd     1\n"
        );
    }
}
