//! Ranges of user ids as the kernel side looks them up.

use std::ops::RangeInclusive;

/// The fewest prefixes, as first number and bits, that make up a range.
pub(super) fn prefixes(range: &RangeInclusive<u32>) -> Vec<(u32, u32)> {
    let (mut first, last) = (u64::from(*range.start()), u64::from(*range.end()));
    let mut found = Vec::new();
    while first <= last {
        // As large as its first number allows, and no larger than what is left.
        let aligned = first.trailing_zeros().min(u32::BITS);
        let size = aligned.min((last - first + 1).ilog2());
        found.push((first as u32, u32::BITS - size));
        first += 1 << size;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    #[test_case(7..=7, &[(7, 32)]; "one")]
    #[test_case(6..=13, &[(6, 31), (8, 30), (12, 31)]; "unaligned")]
    #[test_case(0..=u32::MAX, &[(0, 0)]; "all")]
    #[test_case(u32::MAX..=u32::MAX, &[(u32::MAX, 32)]; "the last")]
    fn a_range_is_few_prefixes(range: RangeInclusive<u32>, expected: &[(u32, u32)]) {
        assert_eq!(prefixes(&range), expected);
    }

    proptest! {
        #[test]
        fn prefixes_are_the_range_and_nothing_else(first: u32, length in 0_u32..70_000, near in -2_i64..70_002) {
            let range = first..=first.saturating_add(length);
            let number = i64::from(first) + near;
            let Ok(number) = u32::try_from(number) else { return Ok(()) };
            let is_in = prefixes(&range).into_iter().any(|(start, bits)| {
                let differs = number ^ start;
                bits == 0 || differs.checked_shr(u32::BITS - bits).unwrap_or(0) == 0
            });
            prop_assert_eq!(is_in, range.contains(&number));
        }
    }
}
