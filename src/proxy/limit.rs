//! Splitting a bound of the whole process over its cores.

/// What of `total` belongs to the `core`-th of `cores`: all get as much, the first ones one more where it does not divide.
/// At least one each, for a core without any could not serve: with fewer than `cores`, the sum is `cores`.
pub const fn share(total: usize, cores: usize, core: usize) -> usize {
    if cores == 0 {
        return if total == 0 { 1 } else { total };
    }
    let whole = total / cores + (core < total % cores) as usize;
    if whole == 0 { 1 } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_add_up_and_differ_by_one_at_most(total in 0_usize..100_000, cores in 1_usize..300) {
            let shares: Vec<usize> = (0..cores).map(|core| share(total, cores, core)).collect();
            let (least, most) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
            prop_assert!(least >= 1 && most - least <= 1);
            prop_assert_eq!(shares.iter().sum::<usize>(), total.max(cores));
        }
    }

    #[test]
    fn no_cores_and_no_total_are_no_error() {
        assert_eq!((share(5, 0, 0), share(0, 0, 3), share(usize::MAX, 1, 0)), (5, 1, usize::MAX));
    }
}
