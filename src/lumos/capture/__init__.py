"""Records a training job so that it can be modelled; needs torch and nothing else of ours."""
