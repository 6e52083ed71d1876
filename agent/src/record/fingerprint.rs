//! record/fingerprint
