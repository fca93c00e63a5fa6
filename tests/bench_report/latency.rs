//! Latencies, from a histogram to figures and a curve.

use hdrhistogram::Histogram;
use switchboard::bench::report::Latency;

#[test]
fn a_histogram_becomes_exact_figures() {
    let mut histogram = Histogram::<u64>::new(3).expect("three digits");
    for step in 1..=10_000u64 {
        histogram.record(step * 100).expect("within its range");
    }
    let latency = Latency::of("part", &histogram);
    assert_eq!((latency.part.as_str(), latency.count), ("part", 10_000));
    // Three digits: at most a thousandth away.
    let near = |shown: f64, exact: f64| assert!((shown - exact).abs() <= exact / 1000.0, "{shown} for {exact}");
    near(latency.min_us, 0.1);
    near(latency.mean_us, 500.05);
    near(latency.p50_us, 500.0);
    near(latency.p90_us, 900.0);
    near(latency.p99_us, 990.0);
    near(latency.p999_us, 999.0);
    near(latency.p9999_us, 999.9);
    near(latency.max_us, 1000.0);
}

#[test]
fn the_curve_has_as_many_points_for_each_nine_and_ends_where_the_values_do() {
    let mut histogram = Histogram::<u64>::new(3).expect("three digits");
    for value in 1..=1000u64 {
        histogram.record(value).expect("within its range");
    }
    let curve = Latency::of("", &histogram).curve;
    let at = |percentile: f64| curve.iter().find(|point| point.0 == percentile).map(|point| point.1);
    assert_eq!((at(0.0), at(90.0), at(99.0), at(99.9)), (Some(0.001), Some(0.9), Some(0.99), Some(0.999)));
    assert_eq!(curve.last().map(|point| point.0), Some(99.9), "a thousand values know no more nines");
    assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));

    histogram.record_n(5, 1_000_000_000).expect("within its range");
    let curve = Latency::of("", &histogram).curve;
    assert!(curve.len() <= 100 && curve.last().map(|point| point.0) == Some(99.999), "{}", curve.len());

    let nothing = Latency::of("", &Histogram::<u64>::new(3).expect("three digits"));
    assert_eq!((nothing.count, nothing.max_us, nothing.curve.len()), (0, 0.0, 0));
}
