"""From a plan to the theatre: registration, target error, accuracy simulation, plan export."""
