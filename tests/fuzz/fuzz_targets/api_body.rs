#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| longwire_fuzz::api_body::run(input));
