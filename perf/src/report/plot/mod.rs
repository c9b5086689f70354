//! Plots as SVG. Their colours are those of the light theme; the page's style finds them by value
//! and changes them for the dark one.

mod scale;

use super::{
    Cell, Heat, Series, Table, Unit,
    heat::{ROWS, row_start},
};
use hdrhistogram::Histogram;
use plotters::{
    chart::{ChartBuilder, ChartContext},
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use scale::Scale;
use std::error::Error;

type Drawn<T> = Result<T, Box<dyn Error>>;
type Area<'s> = DrawingArea<SVGBackend<'s>, Shift>;
type Chart<'a, 's> = ChartContext<'a, SVGBackend<'s>, Cartesian2d<Scale, Scale>>;

const INK: RGBColor = RGBColor(0x37, 0x41, 0x51);
const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
/// Of lines, one after the other; the page names them so in its legend.
const COLORS: [RGBColor; 6] = [
    RGBColor(0x25, 0x63, 0xeb),
    RGBColor(0xd9, 0x77, 0x06),
    RGBColor(0x05, 0x96, 0x69),
    RGBColor(0xc0, 0x26, 0xd3),
    RGBColor(0xdc, 0x26, 0x26),
    RGBColor(0x08, 0x91, 0xb2),
];
const WIDTH: u32 = 600;
const HEIGHT: u32 = 340;
/// In pixels, as the backend means them: the text is a fifth smaller.
const FONT: (&str, i32) = ("sans-serif", 16);
const LABELS: u32 = 70;

/// Latency at each quantile, of several histograms: the farther right, the fewer are slower.
pub(super) fn percentiles(histograms: &[&Histogram<u64>]) -> Drawn<String> {
    let curves: Vec<_> = histograms.iter().map(|histogram| curve(histogram)).collect();
    let points = || curves.iter().flatten();
    let x = Scale::quantiles(points().map(|(x, _)| *x).fold(0.0, f64::max));
    let y = Scale::logarithmic(points().map(|(_, y)| *y));
    draw(HEIGHT, |area| {
        let mut chart = chart(area, &x, &y, LABELS)?;
        for (points, color) in curves.iter().zip(COLORS.iter().cycle()) {
            let points = points.iter().map(|(x, y)| (*x, y.log10()));
            chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        }
        Ok(())
    })
}

/// Logarithms to base 10 of 1/(1-quantile), and nanoseconds.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let count = histogram.len() as f64;
    let steps = histogram.iter_quantiles(10);
    let points = steps.map(|step| {
        // Nothing is beyond the slowest: it is where one of all is.
        let rest = (1.0 - step.quantile_iterated_to()).max(1.0 / count);
        (-rest.log10(), step.value_iterated_to().max(1) as f64)
    });
    points.collect()
}

/// How many took how long, in each stretch of time: the darker, the more.
pub(super) fn heat(heat: &Heat) -> Drawn<String> {
    const COLUMNS_MAX: usize = 120;
    let group = heat.columns().len().div_ceil(COLUMNS_MAX).max(1);
    let seconds = heat.column_seconds() * group as f64;
    let mut cells = Vec::new();
    for (column, counts) in heat.columns().chunks(group).enumerate() {
        for row in 0..ROWS {
            let count: u64 = counts.iter().map(|counts| counts[row]).sum();
            if count > 0 {
                cells.push((column as f64 * seconds, row, count as f64));
            }
        }
    }
    let most = cells.iter().map(|(_, _, count)| *count).fold(1.0, f64::max);
    let end = heat.columns().len() as f64 * heat.column_seconds();
    let x = Scale::linear([end].into_iter(), Unit::Seconds);
    let rows = cells.iter().flat_map(|(_, row, _)| [row_start(*row), row_start(row + 1)]);
    let y = Scale::logarithmic(rows);
    draw(HEIGHT, |area| {
        let mut chart = chart(area, &x, &y, LABELS)?;
        chart.draw_series(cells.iter().map(|(start, row, count)| {
            let corners = [
                (*start, row_start(*row).log10()),
                ((start + seconds).min(end), row_start(row + 1).log10()),
            ];
            // One of a million is to be seen as well.
            let shade = (1.0 + count).ln() / (1.0 + most).ln();
            let steps = (shade * 12.0).round() / 12.0;
            Rectangle::new(corners, COLORS[0].mix(0.1 + 0.9 * steps).filled())
        }))?;
        Ok(())
    })
}

/// Points and the line through them; with the straight line nearest to them, if its slope counts.
pub(super) fn series(series: &Series) -> Drawn<String> {
    let nearest = series.line().filter(|_| series.sloped);
    lines(&series.points, series.over.unit, series.unit, nearest)
}

/// A column against another, a point for each line of a table.
pub(super) fn columns(table: &Table, x: usize, y: usize) -> Drawn<String> {
    let number = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
    let points = table.rows.iter().filter_map(|row| number(&row[x]).zip(number(&row[y])));
    let unit = |column: usize| table.columns[column].unit.unwrap_or(Unit::Count);
    lines(&points.collect::<Vec<_>>(), unit(x), unit(y), None)
}

fn lines(
    points: &[(f64, f64)],
    x_unit: Unit,
    y_unit: Unit,
    nearest: Option<(f64, f64)>,
) -> Drawn<String> {
    /// With more, each is not to be told from the next.
    const DOTS_MAX: usize = 40;
    let points: Vec<_> =
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let x = Scale::linear(points.iter().map(|(x, _)| *x), x_unit);
    let y = Scale::linear(points.iter().map(|(_, y)| *y), y_unit);
    draw(HEIGHT, |area| {
        let mut chart = chart(area, &x, &y, LABELS)?;
        if let Some((start, slope)) = nearest {
            let line = [x.low, x.high].map(|x| (x, start + slope * x));
            chart.draw_series([PathElement::new(line, COLORS[1].stroke_width(1))])?;
        } else {
            let path = points.iter().copied();
            chart.draw_series(LineSeries::new(path, COLORS[0].stroke_width(2)))?;
        }
        if points.len() <= DOTS_MAX {
            let dots = points.iter().map(|point| Circle::new(*point, 4, COLORS[0].filled()));
            chart.draw_series(dots)?;
        }
        Ok(())
    })
}

/// A bar for each line of a table that has a number or none, not words.
pub(super) fn bars(table: &Table, name: usize, value: usize) -> Drawn<String> {
    const NAME_CHARACTERS_MAX: usize = 20;
    const ROW: u32 = 30;
    let short = |row: &Vec<Cell>| {
        let name = table.columns[name].text(&row[name]);
        match name.char_indices().nth(NAME_CHARACTERS_MAX) {
            Some((end, _)) => format!("{}…", &name[..end]),
            None => name,
        }
    };
    let unit = table.columns[value].unit.unwrap_or(Unit::Count);
    let rows = || table.rows.iter().filter(|row| !matches!(row[value], Cell::Text(_)));
    let values: Vec<_> = rows().map(|row| row[value].clone()).collect();
    let number = |cell: &Cell| if let Cell::Number(number) = cell { *number } else { 0.0 };
    let names: Vec<_> = rows().map(short).collect();
    let longest = names.iter().map(|name| name.chars().count() as u32).max().unwrap_or(0);
    let mut x = Scale::linear(values.iter().map(number), unit);
    // The number is written beside the bar.
    x.high += (x.high - x.low) * 0.2;
    let y = Scale::lines(names);
    draw(60 + ROW * values.len() as u32, |area| {
        let mut chart = chart(area, &x, &y, 16 + 10 * longest)?;
        chart.draw_series(values.iter().enumerate().map(|(line, value)| {
            let (top, bottom) = (line as f64 + 0.2, line as f64 + 0.8);
            Rectangle::new([(0.0, top), (number(value), bottom)], COLORS[0].filled())
        }))?;
        let style = font().pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series(values.iter().enumerate().map(|(line, cell)| {
            let text = table.columns[value].text(cell);
            let place = (number(cell), line as f64 + 0.5);
            EmptyElement::at(place) + Text::new(text, (6, 0), style.clone())
        }))?;
        Ok(())
    })
}

fn draw(height: u32, content: impl FnOnce(&Area<'_>) -> Drawn<()>) -> Drawn<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    content(&area)?;
    area.present()?;
    drop(area);
    Ok(svg)
}

fn font() -> TextStyle<'static> {
    FONT.into_font().color(&INK)
}

fn chart<'a, 's>(area: &'a Area<'s>, x: &Scale, y: &Scale, labels: u32) -> Drawn<Chart<'a, 's>> {
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(30)
        .x_label_area_size(30)
        .y_label_area_size(labels)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(font())
        .draw()?;
    Ok(chart)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_of_the_page_knows_each_colour() {
        let style = include_str!("../style.css");
        for RGBColor(red, green, blue) in COLORS {
            let color = format!("#{red:02X}{green:02X}{blue:02X}");
            assert!(style.contains(&format!("[fill=\"{color}\"]")), "{color}");
            assert!(style.contains(&format!("[stroke=\"{color}\"]")), "{color}");
            assert!(style.contains(&format!(": {};", color.to_lowercase())), "{color}");
        }
    }
}
