#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| longwire_fuzz::centrifuge_emulation::run(input));
