//! Thinning a long series to what a plot can show, without losing a spike.

/// The samples that a plot of so many pixel columns needs, in their order: of each column the first, the last, and where
/// each series is lowest and highest. A line through these looks like the line through all.
///
/// `times` never go back, and each series has a value for each of them.
pub fn visible(times: &[f64], series: &[&[f64]], columns: usize) -> Vec<usize> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Vec::new() };
    if times.len() <= columns {
        return (0..times.len()).collect();
    }
    let width = (last - first).max(f64::MIN_POSITIVE) / columns as f64;
    let column_of = |index: usize| (((times[index] - first) / width) as usize).min(columns - 1);
    let mut kept = Vec::new();
    let mut start = 0;
    while start < times.len() {
        let column = column_of(start);
        let end = (start + 1..times.len()).find(|&index| column_of(index) != column).unwrap_or(times.len());
        let mut of_column = vec![start, end - 1];
        for values in series {
            let order = |a: &usize, b: &usize| values[*a].total_cmp(&values[*b]);
            of_column.extend((start..end).min_by(order));
            of_column.extend((start..end).max_by(order));
        }
        of_column.sort_unstable();
        of_column.dedup();
        kept.extend(of_column);
        start = end;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_of_one_sample_stays_visible() {
        let times: Vec<f64> = (0..60_000).map(f64::from).collect();
        let mut up = vec![5.0; times.len()];
        let mut down = up.clone();
        up[31_337] = 900.0;
        down[42] = -3.0;
        let kept = visible(&times, &[&up, &down], 700);
        assert!(kept.contains(&31_337) && kept.contains(&42), "{}", kept.len());
        assert_eq!((kept.first(), kept.last()), (Some(&0), Some(&59_999)));
        assert!(kept.is_sorted() && kept.len() <= 700 * 6, "{}", kept.len());
    }

    #[test]
    fn short_empty_and_timeless_series_are_kept_as_they_are() {
        assert!(visible(&[], &[&[]], 700).is_empty());
        assert_eq!(visible(&[3.0], &[&[1.0]], 700), [0]);
        assert_eq!(visible(&[0.0, 1.0, 2.0], &[&[1.0, 9.0, 1.0]], 3), [0, 1, 2]);
        // All at one time: one column.
        assert_eq!(visible(&[1.0; 9], &[&[0.0, 1.0, 2.0, 9.0, 0.0, -1.0, 0.0, 0.0, 0.0]], 2), [0, 3, 5, 8]);
    }
}
