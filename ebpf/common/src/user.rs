//! What the user side needs to read the shared types out of maps.
#![expect(unsafe_code, reason = "Pod is an unsafe trait")]

use crate::{Endpoint, Event, Executable, Flow, FlowKey, ListenerKey, Settings, Task};

// SAFETY: `repr(C)`, integers and byte arrays only, no padding (asserted by size): every bit pattern is a value.
unsafe impl aya::Pod for Flow {}
// SAFETY: as for `Flow`.
unsafe impl aya::Pod for FlowKey {}
// SAFETY: as for `Flow`.
unsafe impl aya::Pod for ListenerKey {}
// SAFETY: as for `Flow`.
unsafe impl aya::Pod for Endpoint {}
// SAFETY: as for `Flow`; the refusal is kept as an integer.
unsafe impl aya::Pod for Event {}
// SAFETY: as for `Flow`.
unsafe impl aya::Pod for Executable {}
// SAFETY: as for `Flow`.
unsafe impl aya::Pod for Settings {}
// SAFETY: as for `Flow`.
unsafe impl aya::Pod for Task {}
