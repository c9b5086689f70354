//! The result as one page that needs nothing from elsewhere.

use super::{
    Report, Unit, plot,
    table::{Column, Plot, Table},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use std::error::Error;

const STYLE: &str = include_str!("style.css");
/// Nothing is loaded, whatever came into the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page. All text in it is escaped where it is written; plots escape their own.
pub(super) fn page(report: &Report) -> Result<String, Box<dyn Error>> {
    let environment = &report.environment;
    let title = format!("{} {}", report.tool, report.mode);
    let plots = plots(report)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) ", " (environment.date) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    p { (environment.date) ", " (environment.tool()) }
                    p { (environment.machine()) }
                }
                @if !report.valid {
                    section.invalid role="alert" {
                        strong { "This result is not valid." }
                        ul { @for reason in &report.invalid_because { li { (reason) } } }
                    }
                }
                main {
                    (figures(report))
                    (latencies(report))
                    @if !plots.is_empty() {
                        h2 { "Plots" }
                        div.plots { @for plot in &plots { (plot) } }
                    }
                    (counts(report))
                    @if !report.tables.is_empty() {
                        h2 { "Tables" }
                        @for table in &report.tables { div.card { div.scroll { (lines(table)) } } }
                    }
                    (settings(report))
                }
            }
        }
    };
    Ok(page.into_string())
}

fn figures(report: &Report) -> Markup {
    html! {
        @if !report.figures.is_empty() {
            dl.figures {
                @for figure in report.figures.values() {
                    div {
                        dt { (figure.label) }
                        dd { (grouped(&figure.unit.text(figure.value))) }
                    }
                }
            }
        }
        @for note in &report.notes { p { (note) } }
    }
}

fn latencies(report: &Report) -> Markup {
    let text = |value: u64| Unit::Nanoseconds.text(value as f64);
    html! {
        @if let Some(first) = report.histograms.values().next() {
            h2 { "Latencies" }
            div.card { div.scroll { table {
                thead { tr {
                    th {}
                    th.number { "count" }
                    th.number { "min" }
                    th.number { "mean" }
                    @for (name, _) in first.quantiles() { th.number { (name) } }
                    th.number { "max" }
                } }
                tbody { @for latency in report.histograms.values() { tr {
                    th { (latency.label) }
                    td.number { (grouped(&latency.histogram.len().to_string())) }
                    td.number { (text(latency.histogram.min())) }
                    td.number { (Unit::Nanoseconds.text(latency.histogram.mean())) }
                    @for (_, value) in latency.quantiles() { td.number { (text(value)) } }
                    td.number { (text(latency.histogram.max())) }
                } } }
            } } }
        }
    }
}

fn plots(report: &Report) -> Result<Vec<Markup>, Box<dyn Error>> {
    let mut plots = Vec::new();
    let measured = report.histograms.values().filter(|latency| !latency.histogram.is_empty());
    let (labels, histograms): (Vec<_>, Vec<_>) =
        measured.map(|latency| (&*latency.label, &latency.histogram)).unzip();
    if !histograms.is_empty() {
        let about = html! { "The farther right, the fewer are slower." (legend(&labels)) };
        plots.push(figure("Latency by percentile", about, plot::percentiles(&histograms)?));
    }
    for map in report.heat.values().filter(|map| !map.heat.is_empty()) {
        let about = html! { "How many took how long, and when: the stronger, the more." };
        plots.push(figure(&map.label, about, plot::heat(&map.heat)?));
    }
    for series in report.series.values().filter(|series| !series.points.is_empty()) {
        let about = html! {
            "over " (series.over.label) (unit(series.unit))
            @if let Some(slope) = series.slope_text() { ": " (slope) }
        };
        plots.push(figure(&series.label, about, plot::series(series)?));
    }
    for table in report.tables.iter().filter(|table| !table.rows.is_empty()) {
        let column = |index: usize| {
            let Column { label, unit: counted } = &table.columns[index];
            html! { (label) @if let Some(counted) = counted { (unit(*counted)) } }
        };
        match table.plot {
            Some(Plot::Bars { name, value }) => {
                plots.push(figure(&table.title, column(value), plot::bars(table, name, value)?));
            }
            Some(Plot::Curve { x, y }) => {
                let about = html! { (column(y)) " over " (column(x)) };
                plots.push(figure(&table.title, about, plot::columns(table, x, y)?));
            }
            None => {}
        }
    }
    Ok(plots)
}

/// What the numbers beside an axis count.
fn unit(unit: Unit) -> Markup {
    let suffix = unit.axis_suffix();
    html! { @if !suffix.is_empty() { ", " (suffix) } }
}

/// The colours of lines, in their order.
fn legend(labels: &[&str]) -> Markup {
    let colors = ["one", "two", "three", "four", "five", "six"];
    html! {
        span.legend { @for (label, color) in labels.iter().zip(colors.into_iter().cycle()) {
            span { i.(color) {} (label) }
        } }
    }
}

/// Digits in groups of three, where there are more than four.
fn grouped(text: &str) -> String {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let mut grouped = String::with_capacity(text.len() + digits / 3);
    for (index, character) in text.char_indices() {
        if digits > 4 && index > 0 && index < digits && (digits - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(character);
    }
    grouped
}

fn figure(title: &str, about: Markup, svg: String) -> Markup {
    html! {
        figure {
            figcaption { (title) small { (about) } }
            div.scroll role="img" aria-label=(title) { (PreEscaped(svg)) }
        }
    }
}

fn counts(report: &Report) -> Markup {
    html! {
        @for counts in report.counts.values() {
            h2 { (counts.label) }
            div.card {
                dl.terms {
                    @for (name, count) in &counts.counts { dt { (name) } dd { (grouped(&count.to_string())) } }
                }
                @if counts.counts.is_empty() { "none" }
            }
        }
    }
}

fn lines(table: &Table) -> Markup {
    html! {
        table {
            caption { (table.title) }
            thead { tr { @for column in &table.columns {
                th.number[column.unit.is_some()] { (column.head()) }
            } } }
            tbody { @for row in &table.rows { tr { @for (column, cell) in table.columns.iter().zip(row) {
                @if column.unit.is_some() { td.number { (grouped(&column.text(cell))) } }
                @else { td { (column.text(cell)) } }
            } } } }
        }
    }
}

fn settings(report: &Report) -> Markup {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    html! {
        @if let Value::Object(settings) = &report.settings {
            h2 { "Settings" }
            div.card { dl.terms {
                @for (name, value) in settings {
                    dt { (name.replace('_', "-")) }
                    dd { (text(value)) }
                }
            } }
        }
        h2 { "Command" }
        div.card { code { (report.environment.command_line()) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_in_groups_of_three_where_there_are_many() {
        for (text, expected) in [
            ("1234", "1234"),
            ("12345", "12,345"),
            ("1234567 a second", "1,234,567 a second"),
            ("123456.7891", "123,456.7891"),
            ("-", "-"),
            ("", ""),
        ] {
            assert_eq!(grouped(text), expected);
        }
    }
}
