/** What the choices mean, in a line. */

export const METHODS = {
  deconvnet: "Zeiler & Fergus: the signal itself is rectified on its way down.",
  guided: "Also cut where the photograph's own signal was negative.",
  gradient: "The plain derivative of the activation.",
};

export const OVERLAPS = {
  add: "The maximum of several pools gets their sum (the adjoint).",
  overwrite: "The maximum of several pools gets the last one's signal.",
  max: "The maximum of several pools gets the largest signal.",
};

export const SCALES = {
  panel: "Each projection has a full contrast of its own.",
  shared: "All pins have one full contrast: strengths can be compared.",
};

export const FILLS = {
  grey: "The mean of the pictures the network learned from.",
  blur: "The picture itself, blurred: σ is a quarter of the square.",
  noise: "Normal noise with the picture's own mean and deviation.",
  colour: "One colour of your choice.",
};

export const HEATS = {
  probability: "Of the class in question, from 0 to 1.",
  prediction: "The most probable class of each position.",
  activity: "The sum of the unit's map.",
};
