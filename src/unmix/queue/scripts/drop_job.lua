-- Take a job from the list of jobs: it was removed.
-- KEYS: 1 unmix:jobs
-- ARGV: 1 job_id
forget_job(KEYS[1], ARGV[1])
return 1
