//! Stand-in until the real one is merged.
#[derive(Debug, Default)]
pub struct Progress;
impl Progress {
    pub fn phase(&mut self, _: &'static str, _: u64) {}
    pub fn set(&mut self, _: u64, _: &str) {}
    pub fn finish(&mut self) {}
}
