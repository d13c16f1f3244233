"""What the programs share: flags, studies, results, reports. Nothing here is run by itself."""
