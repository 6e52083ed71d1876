//! Plots as SVG, of the two kinds that are needed.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const BAR: f64 = 18.0;
const LABEL: f64 = 190.0;
const VALUE: f64 = 90.0;

/// A group of bars under a heading.
pub(super) struct Group<'a> {
    pub(super) heading: &'a str,
    pub(super) bars: Vec<(&'a str, f64)>,
}

/// Bars in groups, each group to its own scale, since peers differ a hundredfold between groups; logarithmic.
pub(super) fn bars(title: &str, groups: &[Group<'_>]) -> String {
    let mut body = String::new();
    let mut y = 50.0;
    for group in groups {
        let _ =
            writeln!(body, r#"<text x="10" y="{y}" font-weight="bold">{}</text>"#, escaped(group.heading));
        y += 8.0;
        let positive = || group.bars.iter().map(|(_, value)| *value).filter(|value| *value > 0.0);
        let (least, most) = (positive().fold(f64::MAX, f64::min), positive().fold(0.0, f64::max));
        // The shortest bar is still seen.
        let (least, most) = ((least / 2.0).ln(), most.ln());
        for (label, value) in &group.bars {
            let share =
                if *value > 0.0 { (value.ln() - least) / (most - least).max(f64::EPSILON) } else { 0.0 };
            let width = share * (WIDTH - LABEL - VALUE);
            let colour = if label.starts_with("tidegate") { "#0b6e4f" } else { "#9aa5b1" };
            let baseline = y + BAR - 5.0;
            let _ = writeln!(
                body,
                r#"<text x="{}" y="{baseline}" text-anchor="end">{}</text><rect x="{LABEL}" y="{y}" width="{width:.1}" height="{}" fill="{colour}"/><text x="{:.1}" y="{baseline}">{}</text>"#,
                LABEL - 8.0,
                escaped(label),
                BAR - 4.0,
                LABEL + width + 6.0,
                shown(*value),
            );
            y += BAR;
        }
        y += 28.0;
    }
    page(title, y, &body)
}

/// Points over a logarithmic count, with the value from zero on.
pub(super) fn curve(title: &str, counts: &str, points: &[(u64, f64)]) -> String {
    const HEIGHT: f64 = 260.0;
    const LEFT: f64 = 80.0;
    let (top, bottom, right) = (50.0, 50.0 + HEIGHT, WIDTH - 40.0);
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max).max(f64::EPSILON) * 1.1;
    let logarithm = |count: u64| (count.max(1) as f64).log10();
    let widest = points.iter().map(|point| logarithm(point.0)).fold(0.0, f64::max).max(f64::EPSILON);
    let x = |count: u64| LEFT + logarithm(count) / widest * (right - LEFT);
    let y = |value: f64| bottom - value / most * HEIGHT;
    let mut body = format!(r##"<path d="M{LEFT} {top}V{bottom}H{right}" fill="none" stroke="#52606d"/>"##);
    let mut line = String::new();
    for (count, value) in points {
        let (x, y) = (x(*count), y(*value));
        let _ = write!(line, "{x:.1},{y:.1} ");
        let _ = writeln!(
            body,
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="#0b6e4f"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text><text x="{x:.1}" y="{}" text-anchor="middle">{count}</text>"##,
            y - 8.0,
            shown(*value),
            bottom + 18.0,
        );
    }
    let _ = writeln!(body, r##"<polyline points="{}" fill="none" stroke="#0b6e4f"/>"##, line.trim_end());
    let _ = writeln!(
        body,
        r#"<text x="{:.1}" y="{}" text-anchor="middle">{}</text>"#,
        LEFT.midpoint(right),
        bottom + 38.0,
        escaped(counts)
    );
    page(title, bottom + 50.0, &body)
}

fn page(title: &str, height: f64, body: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="10" y="24" font-size="15" font-weight="bold">{}</text>
{body}</svg>
"##,
        escaped(title)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// With about three digits.
pub(super) fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_every_label_and_no_open_tag() {
        let groups = [Group {
            heading: "a & b",
            bars: vec![("tidegate", 10.0), ("mitmproxy", 1_000.0), ("none", 0.0)],
        }];
        let drawing = bars("CPU <µs>", &groups);
        for label in ["a &amp; b", "tidegate", "mitmproxy", "CPU &lt;µs&gt;", ">1000<", ">10.0<"] {
            assert!(drawing.contains(label), "{label}: {drawing}");
        }
        assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
        assert!(drawing.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn a_curve_of_one_point_is_drawn_too() {
        for points in [vec![], vec![(1, 5.0)], vec![(1, 5.0), (10_000, 6.0)], vec![(1, 0.0)]] {
            let drawing = curve("t", "workloads", &points);
            assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
            assert_eq!(drawing.matches("<circle").count(), points.len());
        }
    }
}
