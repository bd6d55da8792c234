"""Where answers are computed: in the process that is asked, or in one behind a pipe."""
