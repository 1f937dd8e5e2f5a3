//! The parameters of an impairment, by the terms of `tc-netem(8)`.

use std::time::Duration;

/// What happens to the frames of one direction of a VM.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Profile {
    /// The time that a frame is held; `None` for none.
    pub delay: Option<Delay>,
    /// The frames that are lost.
    pub loss: Loss,
    /// The share of frames, 0 to 1, that are not held, so that they overtake those that are.
    pub reorder: f64,
    /// The share of frames, 0 to 1, that are sent twice.
    pub duplicate: f64,
    /// The share of frames, 0 to 1, of which one bit behind the Ethernet header is inverted: a damage that no frame check
    /// sequence shows.
    pub corrupt: f64,
    /// The rate at which frames are sent; `None` for at once.
    pub rate: Option<Rate>,
}

/// A delay that varies. Frames stay in order: none is released before the one in front of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delay {
    /// The mean.
    pub base: Duration,
    /// The variation around it.
    pub jitter: Duration,
    /// Its distribution.
    pub distribution: Distribution,
}

/// The distribution of a delay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Distribution {
    /// Uniform from base − jitter to base + jitter.
    #[default]
    Uniform,
    /// Normal, with the jitter as its standard deviation; below zero it is zero.
    Normal,
    /// Pareto with shape 3, scaled so that the jitter is its standard deviation: a steep head and a heavy tail.
    Pareto,
}

/// Frames that are lost.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each with this probability, independent of the others.
    Random(f64),
    /// Every n-th one.
    Every(u32),
    /// In bursts: the Gilbert–Elliott model, with a good and a bad state.
    GilbertElliott {
        /// The probability of a change from good to bad, for each frame (p).
        to_bad: f64,
        /// The probability of a change from bad to good, for each frame (r).
        to_good: f64,
        /// The share of frames that are lost in the bad state (1 − h).
        bad_loss: f64,
        /// The share of frames that are lost in the good state (1 − k).
        good_loss: f64,
    },
}

/// A link of limited speed, and the queue before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Bits per second, of frames without preamble, frame check sequence and gap.
    pub bits_per_second: u64,
    /// Frames that wait for it, the one that is being sent included; more are dropped.
    pub queue: u32,
}

/// Mean and standard deviation of the Pareto distribution with scale 1 and shape 3.
const PARETO: (f64, f64) = (1.5, 0.866_025_403_784_438_6);

impl Profile {
    /// Returns true if nothing is done to any frame.
    pub(in crate::fabric) fn is_void(&self) -> bool {
        let loses = match self.loss {
            Loss::None => false,
            Loss::Random(share) => share > 0.0,
            Loss::Every(_) | Loss::GilbertElliott { .. } => true,
        };
        let is_instant = |delay: Delay| delay.base.is_zero() && delay.jitter.is_zero();
        let is_held = self.rate.is_some() || !self.delay.is_none_or(is_instant);
        let changes = self.reorder > 0.0 || self.duplicate > 0.0 || self.corrupt > 0.0;
        !loses && !is_held && !changes
    }
}

impl Delay {
    /// A delay without variation.
    pub const fn constant(base: Duration) -> Delay {
        Delay {
            base,
            jitter: Duration::ZERO,
            distribution: Distribution::Uniform,
        }
    }

    /// Draws a value.
    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> Duration {
        if self.jitter.is_zero() {
            return self.base;
        }
        // From 0, exclusive, to 1, so that its logarithm and its root exist.
        let positive = |random: &mut fastrand::Rng| 1.0 - random.f64();
        let deviation = match self.distribution {
            Distribution::Uniform => 2.0 * random.f64() - 1.0,
            Distribution::Normal => {
                // Box and Muller's transform.
                let radius = (-2.0 * positive(random).ln()).sqrt();
                radius * (std::f64::consts::TAU * random.f64()).cos()
            }
            Distribution::Pareto => {
                let (mean, deviation) = PARETO;
                (positive(random).cbrt().recip() - mean) / deviation
            }
        };
        let varied = self.jitter.as_secs_f64() * deviation;
        match Duration::try_from_secs_f64(varied.abs()) {
            Ok(varied) if deviation < 0.0 => self.base.saturating_sub(varied),
            Ok(varied) => self.base.saturating_add(varied),
            Err(_) => self.base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_has_the_mean_and_the_variation_that_its_distribution_says() {
        const DRAWS: usize = 100_000;
        let (base, jitter) = (Duration::from_millis(10), Duration::from_millis(1));
        // Standard deviation in ms, smallest and largest draw.
        for (distribution, deviation, least, most) in [
            (Distribution::Uniform, 0.577, 9.0, 11.0),
            (Distribution::Normal, 1.0, 4.0, 16.0),
            (Distribution::Pareto, 1.0, 9.42, f64::MAX),
        ] {
            let delay = Delay {
                base,
                jitter,
                distribution,
            };
            let mut random = fastrand::Rng::with_seed(1);
            let draw = |_| delay.draw(&mut random).as_secs_f64() * 1e3;
            let draws: Vec<f64> = (0..DRAWS).map(draw).collect();
            let mean = draws.iter().sum::<f64>() / DRAWS as f64;
            let squares = draws.iter().map(|draw| (draw - mean).powi(2));
            let found = (squares.sum::<f64>() / DRAWS as f64).sqrt();
            assert!((mean - 10.0).abs() < 0.02, "{distribution:?}: {mean}");
            assert!((found - deviation).abs() < 0.1, "{distribution:?}: {found}");
            let is_within = |draw: &f64| (least..=most).contains(draw);
            assert!(draws.iter().all(is_within), "{distribution:?}");
        }
    }

    #[test]
    fn a_delay_is_never_negative_and_without_jitter_never_different() {
        let mut random = fastrand::Rng::with_seed(2);
        let wide = Delay {
            base: Duration::from_micros(1),
            jitter: Duration::from_secs(1),
            distribution: Distribution::Normal,
        };
        let zeros = (0..1000).filter(|_| wide.draw(&mut random).is_zero());
        assert!((400..600).contains(&zeros.count()));
        let constant = Delay::constant(Duration::from_millis(5));
        assert_eq!(constant.draw(&mut random), constant.base);
    }
}
