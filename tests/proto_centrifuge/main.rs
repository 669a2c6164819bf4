//! The Centrifuge protocol: lines as its clients and servers write them, and a second implementation
//! (`model.rs`, by derives only) that must agree on everything else.

mod model;
mod roundtrip;
mod vectors;
