//! A report with all there is in one, written in each form.

use super::*;
use serde_json::json;

/// As it was measured at a fixed time by a fixed machine.
pub(super) fn sample() -> Report {
    let settings = json!({ "connections": 50, "target": "ws://127.0.0.1:1/" });
    let mut report = Report::new("echo", settings);
    report.environment = Environment {
        date: "2026-11-21T10:00:00Z".to_owned(),
        cpu: "Some CPU".to_owned(),
        cores: 2,
        memory_bytes: 8 << 30,
        kernel: "6.1.0".to_owned(),
        descriptors_max: Some(20_000),
        version: "0.1.0".to_owned(),
        commit: "0123456789ab".to_owned(),
        seed: Some(7),
        command: vec!["quelea-perf".to_owned(), "echo".to_owned()],
    };
    let mut table =
        Table::new("by size", &[("size", Some(Unit::Bytes)), ("rate", Some(Unit::PerSecond))]);
    table.row(vec![20_u64.into(), 900_000_u64.into()]);
    table.row(vec![1024_u64.into(), Cell::None]);
    let mut heat = Heat::default();
    let latency = latency();
    for (index, step) in latency.iter_recorded().enumerate() {
        heat.record(index as u64 * 100, step.value_iterated_to(), 1);
    }
    let errors = [("connection reset", 2), ("timeout", 1)];
    report
        .figure("messages", "messages", 900_000.0, Unit::Count)
        .figure("messages_per_second", "rate", 180_000.0, Unit::PerSecond)
        .figure("server_user_share", "server's user", f64::NAN, Unit::Share)
        .histogram("latency", "latency", &latency)
        .series(Series::over_count(
            "memory",
            "memory",
            Unit::Bytes,
            "connections",
            vec![(0.0, 0.0), (1000.0, 88_000.0)],
        ))
        .heat("latency", "latency over time", &heat)
        .counts("errors", "errors", errors.map(|(name, count)| (name.to_owned(), count)).into())
        .table(table)
        .note("Closed loop.");
    report
}

fn latency() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    for step in 1..=1000 {
        histogram.record(step * 10_000).unwrap();
    }
    histogram.record_n(70_000_000, 3).unwrap();
    histogram
}

#[test]
fn text_tells_all_of_it() {
    let mut report = sample();
    let text = "\
messages        900000
rate            180000 a second
server's user   -
latency         p50 5.02 ms, p90 9.04 ms, p99 9.94 ms, p99.9 70.1 ms, p99.99 70.1 ms, max 70.1 ms
memory          88 bytes a connection
errors          connection reset 2, timeout 1

by size
    size  rate (a second)
20 bytes           900000
1.00 KiB                -
Closed loop.
";
    let environment = "
quelea-perf 0.1.0, commit 0123456789ab, seed 7, 2026-11-21T10:00:00Z
Some CPU, 2 cores, 8.00 GiB, Linux 6.1.0, 20000 descriptors";
    assert_eq!(report.to_string(), format!("{text}{environment}"));
    report.invalid("the generator was late");
    let invalid = "INVALID: the generator was late\n";
    assert_eq!(report.to_string(), format!("{text}{invalid}{environment}"));
}

#[test]
fn a_table_that_was_written_line_by_line_is_not_in_the_text_again() {
    let mut report = sample();
    let table = report.tables.pop().unwrap().written();
    report.table(table);
    assert!(!report.to_string().contains("by size"), "{report}");
    assert!(html::page(&report).unwrap().contains("by size"));
}

#[test]
fn json_has_the_documented_form() {
    let mut report = sample();
    report.invalid("the generator was late");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["tool"], "quelea-perf");
    assert_eq!(json["mode"], "echo");
    assert_eq!(json["valid"], false);
    assert_eq!(json["invalid_because"], json!(["the generator was late"]));
    assert_eq!(json["environment"]["commit"], "0123456789ab");
    assert_eq!(json["settings"]["connections"], 50);
    assert_eq!(json["figures"]["messages_per_second"]["value"], 180_000.0);
    assert_eq!(json["figures"]["messages_per_second"]["unit"], "1/s");
    assert_eq!(json["figures"]["server_user_share"]["value"], Value::Null);
    assert_eq!(json["histograms"]["latency"]["count"], 1003);
    assert_eq!(json["histograms"]["latency"]["unit"], "ns");
    assert_eq!(json["series"]["memory"]["points"], json!([[0.0, 0.0], [1000.0, 88_000.0]]));
    assert_eq!(json["counts"]["errors"]["counts"]["timeout"], 1);
    assert_eq!(json["tables"][0]["rows"], json!([[20.0, 900_000.0], [1024.0, null]]));
}

#[test]
fn json_is_read_back_as_what_it_was() {
    let report = sample();
    let json = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
    let names: Vec<_> = read.figures.keys().map(String::as_str).collect();
    assert_eq!(names, ["messages", "messages_per_second", "server_user_share"]);
    assert_eq!(read.figures["messages"], report.figures["messages"]);
    assert!(read.figures["server_user_share"].value.is_nan());
    assert_eq!(read.histograms["latency"].histogram, latency());
    assert_eq!(read.heat, report.heat);
    assert_eq!((read.valid, &read.environment), (true, &report.environment));
}

#[test]
fn a_histogram_is_the_same_after_base64_and_what_is_none_is_an_error() {
    let encoded = histogram::encode(&latency());
    assert_eq!(histogram::decode(&encoded).unwrap(), latency());
    for text in ["", "?", "AAAA", &encoded[..encoded.len() / 8 * 4]] {
        assert!(histogram::decode(text).is_err(), "{text}");
    }
}

#[test]
fn percentiles_are_in_the_form_that_is_plotted_and_say_the_same() {
    let histogram = latency();
    let text = histogram::percentiles(&histogram);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("       Value     Percentile TotalCount 1/(1-Percentile)"));
    assert_eq!(lines.next(), Some(""));
    let (foot, rows): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("#["));
    let [mean, max, buckets] = &*foot else { panic!("{text}") };
    assert!(mean.starts_with("#[Mean    = ") && mean.contains(", StdDeviation   = "), "{mean}");
    assert!(max.ends_with(", Total count    =         1003]"), "{max}");
    assert_eq!(*buckets, "#[Buckets =           26, SubBuckets     =         2048]");
    let mut before = 0.0;
    for row in &rows {
        let fields: Vec<f64> = row.split_whitespace().map(|field| field.parse().unwrap()).collect();
        let (value, quantile, count) = (fields[0], fields[1], fields[2]);
        let nanoseconds = (value * 1e6).round() as u64;
        assert_eq!(count, histogram.count_between(0, nanoseconds) as f64, "{row}");
        assert!(value >= before && quantile <= count / 1003.0 + 1e-9, "{row}");
        match fields[3..] {
            [inverse] => assert!((inverse - 1.0 / (1.0 - quantile)).abs() < 0.006, "{row}"),
            [] => assert_eq!(quantile, 1.0, "{row}"),
            _ => panic!("{row}"),
        }
        before = value;
    }
    assert!(rows.len() > 40 && before >= 70.0, "{text}");
    let nothing = histogram::percentiles(&Histogram::new(3).unwrap());
    assert!(
        !nothing.contains("NaN") && nothing.contains("Total count    =            0]"),
        "{nothing}"
    );
}

#[test]
fn a_page_tells_all_of_it_and_loads_nothing() {
    let mut report = sample();
    let servers = [("server", None), ("rate", Some(Unit::PerSecond))];
    let mut compared = Table::new("servers", &servers).bars("server", "rate");
    compared.row(vec!["quelea".into(), 1_500_000_u64.into()]);
    compared.row(vec!["other".into(), 900_000_u64.into()]);
    compared.row(vec!["broken".into(), Cell::None]);
    let steps = [("rate", Some(Unit::PerSecond)), ("p99", Some(Unit::Nanoseconds))];
    let mut knee = Table::new("p99 by rate", &steps).curve("rate", "p99");
    for (rate, p99) in [(1e5, 1e5), (2e5, 1.2e5), (3e5, 9e6)] {
        knee.row(vec![rate.into(), p99.into()]);
    }
    report.table(compared).table(knee);
    let points = (0..10).map(|second| (f64::from(second), 180_000.0 + f64::from(second % 3)));
    let rate = Series::over_time("rate", "throughput", Unit::PerSecond, points.collect());
    report.series(rate);
    let page = html::page(&report).unwrap();
    let told = [
        "quelea-perf echo",
        "2026-11-21T10:00:00Z",
        "Some CPU, 2 cores",
        "seed 7",
        "180,000 a second",
        "70.1 ms",
        "88 bytes a connection",
        "connection reset",
        "Closed loop.",
        "ws://127.0.0.1:1/",
        "by size",
        "1,500,000",
        "p99 by rate",
        "over time, a second",
        "99.9 %",
    ];
    for text in told {
        assert!(page.contains(text), "{text}");
    }
    assert_eq!(page.matches("<svg").count(), 6);
    assert!(!page.contains("not valid"));
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http:", "https:", "src=", "<link", "<script", "url(", "@import", "NaN"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn a_page_of_an_invalid_run_has_a_banner_with_its_reasons() {
    let mut report = sample();
    report.invalid("the generator was late").invalid("and busy");
    let page = html::page(&report).unwrap();
    let banner = "<section class=\"invalid\" role=\"alert\"><strong>This result is not valid.</strong>\
                  <ul><li>the generator was late</li><li>and busy</li></ul>";
    assert!(page.contains(banner), "{page}");
    assert!(page.contains("background: var(--bad)"));
}

#[test]
fn what_others_named_is_escaped_wherever_it_is_shown() {
    const HOSTILE: &str = "</svg><script>alert('1')</script>\"&";
    let mut report = sample();
    let heat = report.heat["latency"].heat.clone();
    report.settings = json!({ HOSTILE: HOSTILE });
    report.mode = HOSTILE.to_owned();
    report.environment.command = vec![HOSTILE.to_owned()];
    report.environment.cpu = HOSTILE.to_owned();
    report
        .figure("a", HOSTILE, 1.0, Unit::Count)
        .histogram("b", HOSTILE, &latency())
        .series(Series::over_time("c", HOSTILE, Unit::Count, vec![(0.0, 1.0)]))
        .heat("d", HOSTILE, &heat)
        .counts("e", HOSTILE, [(HOSTILE.to_owned(), 1)].into())
        .note(HOSTILE)
        .invalid(HOSTILE);
    let columns = [(HOSTILE, None), ("rate", Some(Unit::Count))];
    let mut table = Table::new(HOSTILE, &columns).bars(HOSTILE, "rate");
    table.row(vec![HOSTILE.into(), 1_u64.into()]);
    report.table(table);
    let page = html::page(&report).unwrap();
    assert!(page.matches("&lt;/svg&gt;&lt;script&gt;").count() >= 15, "{page}");
    for raw in ["<script", "alert('1')</", "</svg><s"] {
        assert!(!page.contains(raw), "{raw}");
    }
}

#[test]
fn a_page_of_nothing_measured_is_a_page() {
    let mut report = Report::new("echo", ());
    let empty = Histogram::new(3).unwrap();
    report
        .histogram("latency", "latency", &empty)
        .heat("latency", "latency over time", &Heat::default())
        .counts("errors", "errors", BTreeMap::new())
        .series(Series::over_time("rate", "rate", Unit::PerSecond, Vec::new()))
        .table(
            Table::new("servers", &[("server", None), ("rate", Some(Unit::Count))])
                .bars("server", "rate"),
        );
    let page = html::page(&report).unwrap();
    assert!(page.contains("</html>") && !page.contains("<svg"));
    let text = report.to_string();
    assert!(
        text.starts_with("latency         nothing was measured\nerrors          none\n"),
        "{text}"
    );
}
