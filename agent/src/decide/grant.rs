//! decide/grant
