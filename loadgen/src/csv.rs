//! Samples as CSV (RFC 4180), for whoever wants to plot them otherwise.

use crate::series::Sample;

const COLUMNS: [&str; 11] = [
    "at_s",
    "phase",
    "verdict",
    "rss_bytes",
    "anon_bytes",
    "descriptors",
    "kernel_sockets",
    "live_bytes",
    "live_without_shadow_bytes",
    "allocated_from_kernel_bytes",
    "fragmentation_bytes",
];

/// The names of the columns of all rows whose samples have the classes of this one, in its order; without the line end.
pub fn header(sample: &Sample) -> String {
    let classes = sample
        .classes
        .iter()
        .flat_map(|(class, ..)| [field(&format!("{class}_live")), field(&format!("{class}_heap_bytes"))]);
    COLUMNS.into_iter().map(str::to_owned).chain(classes).collect::<Vec<_>>().join(",")
}

/// One sample, without the line end. Times are in seconds, sizes in bytes.
pub fn row(sample: &Sample) -> String {
    let figures = [
        sample.rss_bytes,
        sample.anon_bytes,
        sample.descriptors,
        sample.kernel_sockets,
        sample.live_bytes,
        sample.live_without_shadow,
        sample.allocated_from_kernel_bytes,
        sample.fragmentation_bytes,
    ];
    let mut fields = vec![format!("{:.3}", sample.at_s), field(&sample.phase), field(&sample.verdict)];
    fields.extend(figures.map(|figure| figure.to_string()));
    for (_, live, heap_bytes) in &sample.classes {
        fields.extend([live.to_string(), heap_bytes.to_string()]);
    }
    fields.join(",")
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_field_for_each_column() {
        let sample = Sample {
            at_s: 1.5,
            rss_bytes: 9,
            live_bytes: 7,
            classes: vec![("router".into(), 200, 4000), ("log".into(), 0, 64)],
            verdict: "flat".into(),
            phase: "quiet".into(),
            ..Sample::default()
        };
        let header = header(&sample);
        let row = row(&sample);
        assert_eq!(header.split(',').count(), row.split(',').count());
        assert!(
            header.ends_with("fragmentation_bytes,router_live,router_heap_bytes,log_live,log_heap_bytes")
        );
        assert_eq!(row, "1.500,quiet,flat,9,0,0,0,7,0,0,0,200,4000,0,64");
    }

    #[test]
    fn a_text_with_commas_stays_one_field() {
        let sample = Sample { phase: "burst 2, \"big\"".into(), ..Sample::default() };
        assert!(row(&sample).starts_with("0.000,\"burst 2, \"\"big\"\"\",,0,"));
    }
}
