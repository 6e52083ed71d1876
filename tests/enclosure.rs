//! The enclosure of `tidegate run` on the real kernel. Needs root.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

mod enclosure {
    mod bystanders;
    mod confinement;
    mod ends;
    mod trust;
}
#[path = "enclosure/place.rs"]
mod place;
